"""Scikit-learn's handwritten digits: 1,797 images of 8x8 pixels that need no download."""

import numpy as np
import sklearn.datasets
from sklearn.model_selection import train_test_split

from train.data.dataset import Dataset, Split

_TEST_EXAMPLES = 360
_MAX_VALUE = 16  # a pixel of the source counts the set pixels of a 4x4 block


def load() -> Dataset:
    """Return 1,437 training and 360 test images, always the same, split by class."""
    source = sklearn.datasets.load_digits()
    images = np.round(source.images * (255 / _MAX_VALUE)).astype(np.uint8)[..., None]
    labels = source.target.astype(np.int32)
    train_ids, test_ids = train_test_split(
        np.arange(len(labels)), test_size=_TEST_EXAMPLES, stratify=labels, random_state=0
    )
    return Dataset(
        train=Split(images[train_ids], labels[train_ids]),
        test=Split(images[test_ids], labels[test_ids]),
        num_classes=len(source.target_names),
        class_names=tuple(map(str, source.target_names)),
    )
