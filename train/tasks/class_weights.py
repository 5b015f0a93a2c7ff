"""Weights of classes by their frequency, for data sets in which some classes are rare."""

import numpy as np
from ml_collections import ConfigDict

from train.data import class_counts
from train.data.class_counts import HasTrainingSplit


def balanced(config: ConfigDict, dataset: HasTrainingSplit) -> np.ndarray:
    """Return the weight of each class: float32, (classes,).

    A class with n of N examples, of K classes, has the weight N / (K n). So all classes have the
    same total weight, and the mean weight of an example is 1.

    Raises:
      UserError: If the labels are only in the records, or a class has no examples.
    """
    labels, counts = class_counts.count(config, dataset, "loss.class_weights", "none")
    return (len(labels) / (dataset.num_classes * np.asarray(counts))).astype(np.float32)
