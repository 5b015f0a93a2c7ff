"""Scikit-learn's handwritten digits: 1,797 images of 8x8 pixels that need no download."""

import functools
import importlib.metadata

import numpy as np

from train.data.dataset import Dataset, Split
from train.data.decoded_cache import cached

_TEST_EXAMPLES = 360
_MAX_VALUE = 16  # a pixel of the source counts the set pixels of a 4x4 block


def load() -> Dataset:
    """Return 1,437 training and 360 test images, always the same, split by class."""
    source = f"digits of scikit-learn {importlib.metadata.version('scikit-learn')}"
    train, test = (
        cached(Split, f"{source}, {name}", [], functools.partial(_read, name))
        for name in ("train", "test")
    )
    return Dataset(train, test, num_classes=10, class_names=tuple("0123456789"))


def _read(name: str) -> Split:
    # Imported here because they take more than a second.
    import sklearn.datasets
    from sklearn.model_selection import train_test_split

    source = sklearn.datasets.load_digits()
    images = np.round(source.images * (255 / _MAX_VALUE)).astype(np.uint8)[..., None]
    labels = source.target.astype(np.int32)
    train_ids, test_ids = train_test_split(
        np.arange(len(labels)), test_size=_TEST_EXAMPLES, stratify=labels, random_state=0
    )
    ids = train_ids if name == "train" else test_ids
    return Split(images[ids], labels[ids])
