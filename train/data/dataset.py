"""A data set in memory, as every source yields it."""

from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """DeviceSplit in the source's order; texts are numbers of words, 0 where there is none."""

    inputs: np.ndarray  # uint8, (examples, height, width, channels); uint16, (examples, words)
    labels: np.ndarray  # int32, (examples,)


class Dataset(NamedTuple):
    """What a run trains on and is measured on."""

    train: Split
    test: Split
    num_classes: int
    class_names: tuple[str, ...] = ()  # empty if they have none

    @property
    def num_train(self) -> int:
        return len(self.train.labels)

    @property
    def num_test(self) -> int:
        return len(self.test.labels)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one example: height, width, channels of an image, words of a text."""
        return self.train.inputs.shape[1:]


class Description(NamedTuple):
    """What is known of a data set without its examples."""

    num_classes: int
    input_shape: tuple[int, ...]  # as the device gets them
    num_train: int | None  # examples to train on; None where the set is not prepared
