"""The number of training examples of each class, for weights and for balanced sampling."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from ml_collections import ConfigDict

from train.data import records
from train.data.dataset import Split
from train.errors import UserError


@runtime_checkable
class HasTrainingSplit(Protocol):
    """A data set with its examples, and not only a description of them."""

    @property
    def train(self) -> Any: ...
    @property
    def num_classes(self) -> int: ...


class ClassCounts(NamedTuple):
    """The classes of the training examples.

    Attributes:
      labels: int32, (examples,); the class of each example.
      counts: int32, (classes,); the number of examples of each class, at least 1.
    """

    labels: np.ndarray | jax.Array
    counts: np.ndarray | jax.Array


def for_sampling(config: ConfigDict, dataset: Any) -> ClassCounts | None:
    """Return the classes that `config.data.sampling` needs; None if it needs none.

    Args:
      config: A validated config.
      dataset: A `HasTrainingSplit`, unless it needs none.

    Raises:
      UserError: As in `count`.
    """
    if config.data.sampling == "shuffled":
        return None
    return count(config, dataset, "data.sampling", "shuffled")


def count(config: ConfigDict, dataset: HasTrainingSplit, field: str, otherwise: str) -> ClassCounts:
    """Count the training examples of each class.

    Args:
      config: A validated config.
      dataset: The data set.
      field: The field whose value "balanced" needs the counts.
      otherwise: The value of the field that needs none.

    Raises:
      UserError: If the labels are only in the records, one is not a class, or a class has no
        examples.
    """
    split = dataset.train
    labels = split.labels if isinstance(split, Split) else split.labels()
    if labels is None:
        raise UserError(
            f"config.{field}='balanced' needs the labels of all training examples, but those of "
            f"{config.data.name} are in its records; set config.data.in_memory to True, or "
            f"{field} to {otherwise!r}"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= dataset.num_classes))
    if len(wrong):
        name, label = split.record_name(int(wrong[0])), int(labels[wrong[0]])
        raise records.label_error(name, label, dataset.num_classes, split.fix_hint)
    counts = np.bincount(labels, minlength=dataset.num_classes).astype(np.int32)
    if not counts.all():
        raise UserError(
            f"config.{field}='balanced' is not possible: class {int(counts.argmin())} has no "
            f"training examples; set it to {otherwise!r}"
        )
    return ClassCounts(labels, counts)
