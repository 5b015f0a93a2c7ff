"""A data set of random pixels and labels, so that a benchmark needs no download."""

import numpy as np

from train.data.dataset import Dataset, Split

CLASSES = 100


def random_dataset(num_train: int, num_test: int = 500) -> Dataset:
    """Return random images of CIFAR-100's shape with random labels."""
    rng = np.random.default_rng(0)

    def random_split(count: int) -> Split:
        pixels = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        return Split(pixels, rng.integers(0, CLASSES, count, np.int32))

    return Dataset(random_split(num_train), random_split(num_test), CLASSES)
