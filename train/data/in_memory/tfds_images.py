"""Any TFDS image-classification set that fits in memory, read without TensorFlow."""

from typing import Any

import numpy as np

from train.data import tfds_builder
from train.data.dataset import Dataset, Split
from train.data.in_memory import tfds_examples
from train.errors import UserError


def load(name: str, data_dir: str, test_share: float = 0.0) -> Dataset:
    """Reads the training and the test split.

    Args:
      name: a TFDS name such as `cifar100`.
      data_dir: the TFDS data folder; empty for `TFDS_DATA_DIR` or TFDS's default.
      test_share: as for `tfds_builder.splits`.

    Returns:
      The decoded data set.

    Raises:
      UserError: TFDS does not know the name, the set is not prepared, is damaged, or is no
        classification of images of one size.
    """
    builder = tfds_builder.open_prepared(name, data_dir, "image", test_share)
    tfds_builder.check_size(name, builder.info.features["image"])
    train, tests = tfds_builder.splits(builder.info.splits, test_share)
    label = builder.info.features["label"]

    def remembered(split: str) -> Split:
        return tfds_examples.remembered(
            builder, split, (split,), lambda: _read(builder, name, split)
        )

    return Dataset(
        train=remembered(train),
        test=remembered(tests[0]),
        num_classes=label.num_classes,
        class_names=tuple(label.names),
    )


def _read(builder: Any, name: str, split: str) -> Split:
    shape, count = builder.info.features["image"].shape, builder.info.splits[split].num_examples
    where = tfds_builder.where(builder, name, split)
    try:
        images: np.ndarray = np.empty((count, *shape), np.uint8)
        labels: np.ndarray = np.empty(count, np.int32)
    except (MemoryError, ValueError):  # the latter of shapes that no machine could hold
        raise UserError(f"{where} does not fit in memory; choose a smaller one") from None
    for index, (image, label) in enumerate(tfds_examples.labelled(builder, name, split, "image")):
        if image.shape != shape:
            raise UserError(
                f"record {index} of {where} has an image of shape {image.shape}, and the set says "
                f"{shape}; {tfds_builder.FIX_HINT}"
            )
        images[index], labels[index] = image, label
    return Split(images, labels)
