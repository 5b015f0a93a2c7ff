"""A data set of random pixels, so that no benchmark has to download one."""

import numpy as np

from train.data.dataset import Dataset, Split

CLASSES = 100


def dataset(num_train: int, num_test: int = 500) -> Dataset:
    """Images of CIFAR-100's shape, with labels that say nothing of them."""
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        pixels = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        return Split(pixels, rng.integers(0, CLASSES, count, np.int32))

    return Dataset(split(num_train), split(num_test), CLASSES)
