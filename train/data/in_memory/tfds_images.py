"""Any TFDS image-classification data set that fits in memory, read without TensorFlow."""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from train.data import decoded_cache, tfds_builder, tfds_classification
from train.data.dataset import Dataset, Split
from train.errors import UserError


def load(data: ConfigDict) -> Dataset:
    """Load the training and the test split as decoded images.

    Args:
      data: The `data` fields of a config.

    Raises:
      UserError: If TFDS does not know the name, or if the data set is not prepared, is damaged, or
        is not a classification of images of one size.
    """
    builder = tfds_classification.open_classified(data, "image")
    tfds_classification.check_fixed_shape(data.name, builder.info.features["image"])
    train, tests = tfds_builder.split_names(builder.info.splits, data.test_share)
    label = builder.info.features[data.label]
    label_name = "" if data.label == "label" else f", {data.label}"

    def load_split(split: str) -> Split:
        return decoded_cache.cached(
            Split,
            f"{builder.info.full_name}, {split}{label_name}",
            tfds_builder.files(builder, {split}),
            lambda: _decode(builder, data, split),
        )

    return Dataset(
        train=load_split(train),
        test=load_split(tests[0]),
        num_classes=label.num_classes,
        class_names=tuple(label.names),
    )


def _decode(builder: Any, data: ConfigDict, split: str) -> Split:
    shape, count = builder.info.features["image"].shape, builder.info.splits[split].num_examples
    try:
        images: np.ndarray = np.empty((count, *shape), np.uint8)
        labels: np.ndarray = np.empty(count, np.int32)
    except (MemoryError, ValueError):  # NumPy raises ValueError for shapes above its own limit
        raise UserError(
            f"{tfds_builder.describe_split(builder, data.name, split)} does not fit in memory; "
            "choose a smaller data set"
        ) from None
    examples = tfds_classification.read_examples(builder, data, split, "image")
    for index, (record, image, label) in enumerate(examples):
        if image.shape != shape:
            raise UserError(
                f"{record} has an image of shape {image.shape} instead of "
                f"{shape}; {tfds_builder.FIX_HINT}"
            )
        images[index], labels[index] = image, label
    return Split(images, labels)
