"""A subset of a data set: some of its classes, or some examples of each class."""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from train.data.dataset import Dataset, Split
from train.errors import UserError, short_repr


def is_requested(config: ConfigDict) -> bool:
    """Return whether the config asks for a subset."""
    return bool(config.data.classes or config.data.train_per_class)


def select(config: ConfigDict, dataset: Dataset) -> Dataset:
    """Return the subset that `config.data` describes; by default the whole data set.

    `classes` applies to both splits; the new labels follow the order in which the classes are
    given. `train_per_class` applies to the training split: that many examples of each class, in
    the order of the source. `train_draw` alone determines which ones.

    Raises:
      UserError: If there is no such class, or if there are too few examples.
    """
    if not is_requested(config):
        return dataset
    if config.data.classes:
        classes = _check_classes(config.data.classes, dataset.num_classes)
        names = dataset.class_names or tuple(map(str, range(dataset.num_classes)))
        dataset = Dataset(
            train=_select_classes(dataset.train, classes),
            test=_select_classes(dataset.test, classes),
            num_classes=len(classes),
            class_names=tuple(names[label] for label in classes),
        )
    if config.data.train_per_class:
        dataset = dataset._replace(
            train=_sample_per_class(config, dataset.train, dataset.num_classes)
        )
    for name, split in (("training", dataset.train), ("test", dataset.test)):
        if not len(split.labels):
            raise UserError(
                f"config.data.classes={short_repr(config.data.classes)} leaves no {name} examples; "
                "use more classes"
            )
    return dataset


def _check_classes(classes: Any, num_classes: int) -> list[int]:
    wrong = [
        label
        for label in classes
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < num_classes
    ]
    if wrong or len(set(classes)) < len(classes):
        raise UserError(
            f"config.data.classes={short_repr(classes)} is not allowed; use classes from 0 to "
            f"{num_classes - 1}, each at most once"
        )
    return list(classes)


def _select_classes(split: Split, classes: list[int]) -> Split:
    """Return the examples of the classes, with labels from 0 to `len(classes) - 1`."""
    ids = np.flatnonzero(np.isin(split.labels, classes))
    new_labels = np.zeros(max(classes) + 1, np.int32)
    new_labels[classes] = np.arange(len(classes))
    return Split(split.inputs[ids], new_labels[split.labels[ids]])


def _sample_per_class(config: ConfigDict, split: Split, num_classes: int) -> Split:
    """Return `config.data.train_per_class` random examples of each class."""
    count = config.data.train_per_class
    shuffled = np.random.default_rng(config.data.train_draw).permutation(len(split.labels))
    by_class = [shuffled[split.labels[shuffled] == label][:count] for label in range(num_classes)]
    smallest = min(map(len, by_class))
    if smallest < count:
        raise UserError(
            f"config.data.train_per_class={count} is more than the {smallest} training examples of "
            f"the smallest class of {config.data.name}; use at most {smallest}"
        )
    ids = np.sort(np.concatenate(by_class))
    return split.select(ids)
