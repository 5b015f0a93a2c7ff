"""The data of a study: the whole set, and its training split divided for the choice of rates."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict
from sklearn.model_selection import train_test_split

from train import data, tasks
from train.checkpoints import pretrained
from train.checkpoints.pretrained import PretrainedWeights
from train.data.dataset import AnyDataset, is_in_memory
from train.engine import plan
from train.errors import UserError, short_repr
from train.output.files import Line
from train.studies import design
from train.studies.design import Setting


class Datasets(NamedTuple):
    """The data sets of a study.

    Attributes:
      tune: For the choice of rates: the training set in two parts, the second for validation.
      final: For the reported runs: the whole training set and the test set.
    """

    tune: AnyDataset
    final: AnyDataset


def load_datasets(study: ConfigDict, lines: Iterable[Line]) -> Datasets:
    """Load the data set, and split a validation set off its training set, stratified by class.

    The split is random if the labels are only in the records, and for images with objects.

    Args:
      study: A validated study config.
      lines: The results so far.

    Raises:
      UserError: If the data cannot be loaded, the config does not fit it, the validation set is too
        small or too large, or the weights to start from have changed since earlier runs.
    """
    lines = list(lines)
    final = data.load(study.base)
    for setting in design.settings(study):
        config = design.trainer_config(study, design.arms(study, setting)[0], 0, 1.0)
        plan.make(config, final.num_train)
        task = tasks.build(config, final)
        if config.init_from:
            # Here, before the runs of other settings.
            _check_source(pretrained.load(config, task), setting, lines)
    _check_landscape_examples(study.landscape_examples, final)
    count = study.tuning.validation_examples
    if not count:
        return Datasets(final, final)
    labels = final.train_labels()
    _check_validation_size(final, count, labels)
    rest, validation = train_test_split(
        np.arange(final.num_divisible), test_size=count, stratify=labels, random_state=0
    )
    return Datasets(final.divide(np.sort(rest), np.sort(validation)), final)


def _check_validation_size(dataset: AnyDataset, count: int, labels: np.ndarray | None) -> None:
    if not dataset.num_classes <= count <= dataset.num_divisible - dataset.num_classes:
        raise UserError(
            f"config.tuning.validation_examples={count} is not possible with "
            f"{dataset.num_divisible} training examples of {dataset.num_classes} classes; both "
            "parts need at least one of each class"
        )
    if labels is None:
        return
    fewest = np.bincount(labels, minlength=dataset.num_classes).min()
    if fewest < 2:
        raise UserError(
            f"config.tuning.validation_examples={count} cannot be split off by class, because a "
            f"class has {fewest} training example(s); set it to 0, with one rate for each optimizer"
        )


def _check_landscape_examples(count: int, dataset: AnyDataset) -> None:
    if count and not is_in_memory(dataset):
        raise UserError(
            f"config.landscape_examples={count} needs a data set in memory; set it to 0, or set "
            "config.base.data.in_memory=True"
        )
    if count > dataset.num_train:
        raise UserError(
            f"config.landscape_examples={count} is more than the {dataset.num_train} training "
            f"examples; use at most {dataset.num_train}"
        )


def _check_source(weights: PretrainedWeights, setting: Setting, lines: list[Line]) -> None:
    """Check that the runs of a setting so far started from the same weights."""
    setting_lines = (line for line in lines if line.get("variant", "") == setting.variant)
    if any(line.get("init_sha256", weights.sha256) != weights.sha256 for line in setting_lines):
        raise UserError(
            f"config.init_from={short_repr(weights.source)} has changed since the runs in the work "
            "folder were made; use another --workdir, or restore it"
        )
