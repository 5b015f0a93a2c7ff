"""Weights of classes by their frequency, for data sets in which some classes are rare."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from ml_collections import ConfigDict

from train.data.dataset import Split
from train.errors import UserError


@runtime_checkable
class HasTrainingSplit(Protocol):
    """A data set with its examples, and not only a description of them."""

    train: Any
    num_classes: int


def balanced(config: ConfigDict, dataset: HasTrainingSplit) -> np.ndarray:
    """Return the weight of each class: float32, (classes,).

    A class with n of N examples, of K classes, has the weight N / (K n). So all classes have the
    same total weight, and the mean weight of an example is 1.

    Raises:
      UserError: If the labels are only in the records, or a class has no examples.
    """
    split = dataset.train
    labels = split.labels if isinstance(split, Split) else split.labels()
    if labels is None:
        raise UserError(
            f"config.loss.class_weights='balanced' needs the labels of all training examples, but "
            f"those of {config.data.name} are in its records; set config.data.in_memory to "
            "True, or class_weights to 'none'"
        )
    counts = np.bincount(labels, minlength=dataset.num_classes)
    if not counts.all():
        raise UserError(
            f"config.loss.class_weights='balanced' is not possible: class {int(counts.argmin())} "
            "has no training examples; set it to 'none'"
        )
    return (len(labels) / (dataset.num_classes * counts)).astype(np.float32)
