"""Any TFDS image-classification set that fits in memory, read without TensorFlow."""

from pathlib import Path
from typing import Any

import numpy as np

from train.data import decoded, tfds_builder
from train.data.dataset import Dataset, Split
from train.errors import UserError, reason

_DESCRIPTIONS = (".json", ".txt")  # of the classes, the shapes and the numbers of records


def load(name: str, data_dir: str, test_share: float = 0.0) -> Dataset:
    """Reads the training and the test split.

    Args:
      name: a TFDS name such as `cifar100` or `imdb_reviews/plain_text`.
      data_dir: the TFDS data folder; empty for `TFDS_DATA_DIR` or TFDS's default.
      test_share: as for `tfds_builder.splits`.

    Returns:
      The decoded data set.

    Raises:
      UserError: TFDS does not know the name, the set is not prepared, is damaged, or is no
        classification of images of one size.
    """
    builder = tfds_builder.open_prepared(name, data_dir, test_share)
    tfds_builder.check_size(name, builder.info.features["image"])
    train, tests = tfds_builder.splits(builder.info.splits, test_share)
    label = builder.info.features["label"]
    return Dataset(
        train=_remembered(builder, name, train),
        test=_remembered(builder, name, tests[0]),
        num_classes=label.num_classes,
        class_names=tuple(label.names),
    )


def _remembered(builder: Any, name: str, split: str) -> Split:
    records = [Path(file) for file in builder.info.splits[split].filepaths]
    if not all(file.is_file() for file in records):
        return _read(builder, name, split)  # which says what is wrong
    described = [file for file in Path(builder.data_dir).iterdir() if file.suffix in _DESCRIPTIONS]
    what = f"{builder.info.full_name}, {split}"
    return decoded.remembered(what, records + described, lambda: _read(builder, name, split))


def _read(builder: Any, name: str, split: str) -> Split:
    features = builder.info.features
    shape, num_classes = features["image"].shape, features["label"].num_classes
    where, mend = tfds_builder.where(builder, name, split), tfds_builder.MEND
    try:
        source = builder.as_data_source(split=split)
        images: np.ndarray = np.empty((len(source), *shape), np.uint8)
        labels: np.ndarray = np.empty(len(source), np.int32)
    except MemoryError:
        raise UserError(f"{where} does not fit in memory; choose a smaller one") from None
    except Exception as error:  # whatever damaged files make TFDS raise
        raise UserError(f"cannot open {where}: {reason(error)}; {mend}") from error
    for index in range(len(source)):
        try:
            example = source[index]
            image, label = example["image"], int(example["label"])
        except Exception as error:  # as above
            raise UserError(
                f"record {index} of {where} is damaged: {reason(error)}; {mend}"
            ) from error
        if image.shape != shape:
            raise UserError(
                f"record {index} of {where} has an image of shape {image.shape}, and the set says "
                f"{shape}; {mend}"
            )
        if not 0 <= label < num_classes:
            raise UserError(
                f"record {index} of {where} has the label {label}, and the set has {num_classes} "
                f"classes: labels must be from 0 to {num_classes - 1}; {mend}"
            )
        images[index], labels[index] = image, label
    return Split(images, labels)
