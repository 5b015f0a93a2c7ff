"""Any TFDS image-classification set that fits in memory, read without TensorFlow."""

import importlib.util
import os
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from train.data.dataset import Dataset, Split
from train.errors import UserError

_TEST_SPLITS = ("test", "validation")  # the first that the set has


def load(name: str, data_dir: str) -> Dataset:
    """Reads the training and the test split.

    Args:
      name: a TFDS name such as `cifar100` or `imdb_reviews/plain_text`.
      data_dir: the TFDS data folder; empty for `TFDS_DATA_DIR` or TFDS's default.

    Returns:
      The decoded data set.

    Raises:
      UserError: TFDS does not know the name, the set is not prepared, or is no classification of
        images of one size.
    """
    folder = os.path.expanduser(data_dir or os.environ.get("TFDS_DATA_DIR", "")) or None
    builder = _prepared_builder(name, folder)
    test_split = _check_splits(name, builder.info.splits)
    _check_features(name, builder.info.features)
    return Dataset(
        train=_read(builder, name, "train"),
        test=_read(builder, name, test_split),
        num_classes=builder.info.features["label"].num_classes,
    )


def _prepared_builder(name: str, folder: str | None) -> Any:
    try:
        builder = tfds.builder(name, data_dir=folder, file_format="array_record")
    except tfds.core.registered.DatasetNotFoundError:
        raise UserError(
            f"config.data.name={name!r} is neither 'digits' nor a TFDS data set; "
            "the names are at https://www.tensorflow.org/datasets/catalog"
        ) from None
    except (ValueError, AssertionError, ImportError) as error:
        raise UserError(f"TFDS cannot open {name!r}: {error}") from error
    if builder.info.splits:
        return builder
    if importlib.util.find_spec("tensorflow") is None:
        where = f" --data_dir={folder}" if folder else ""
        raise UserError(
            f"{name} is not prepared in {builder.data_dir}; prepare it once with: "
            f"pip install tensorflow && tfds build {name} --file_format=array_record{where} "
            "(or point --config.data.dir or TFDS_DATA_DIR to a folder that has it)"
        )
    builder.download_and_prepare(file_format="array_record")
    return builder


def _check_splits(name: str, splits: Any) -> str:
    test_split = next((split for split in _TEST_SPLITS if split in splits), None)
    if "train" not in splits or test_split is None:
        raise UserError(
            f"{name} has the splits {', '.join(splits) or 'none'}; "
            f"training needs 'train' and one of {', '.join(_TEST_SPLITS)}"
        )
    return test_split


def _check_features(name: str, features: Any) -> None:
    by_name = dict(features.items())
    image, label = by_name.get("image"), by_name.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise UserError(
            f"{name} is no image classification: it needs the features 'image' and 'label', "
            f"and has {', '.join(features)}"
        )
    if None in image.shape or image.np_dtype != np.uint8:
        raise UserError(
            f"{name} has images of shape {image.shape} and type {np.dtype(image.np_dtype).name}; "
            "a data set in memory needs uint8 images of one size"
        )


def _read(builder: Any, name: str, split: str) -> Split:
    source = builder.as_data_source(split=split)
    if not len(source):
        raise UserError(f"the split {split!r} of {name} is empty")
    features = builder.info.features
    images: np.ndarray = np.empty((len(source), *features["image"].shape), np.uint8)
    labels: np.ndarray = np.empty(len(source), np.int32)
    for index, example in enumerate(source):
        images[index], labels[index] = example["image"], example["label"]
    if labels.min() < 0 or labels.max() >= features["label"].num_classes:
        raise UserError(
            f"{name} has labels from {labels.min()} to {labels.max()} "
            f"but {features['label'].num_classes} classes"
        )
    return Split(images, labels)
