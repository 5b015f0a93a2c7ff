"""A data set in memory, as every source yields it."""

from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """Examples in the source's order."""

    inputs: np.ndarray  # uint8, (examples, height, width, channels)
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
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        _, height, width, channels = self.train.inputs.shape
        return height, width, channels


class Description(NamedTuple):
    """What is known of a data set without its examples."""

    num_classes: int
    input_shape: tuple[int, int, int]  # height, width, channels, as the device gets them
    num_train: int | None  # examples to train on; None where the set is not prepared
