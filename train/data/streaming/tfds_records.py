"""Any TFDS image-classification set of images of any size, read record by record."""

from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from train.data import tfds_builder
from train.data.streaming.source import EncodedImage, bad_label, damaged
from train.errors import UserError, describe_error


class TfdsRecords:
    """A split of a prepared set; its images are decoded where they are cropped, and not here.

    Raises:
      UserError: a file of the split is missing or damaged.
    """

    fix_hint = tfds_builder.FIX_HINT

    def __init__(self, builder: Any, name: str, split: str):
        label = builder.info.features["label"]
        self.num_classes, self.class_names = label.num_classes, tuple(label.names)
        self.name = tfds_builder.where(builder, name, split)
        # Of all images, for some sets have masks beside them.
        images = [k for k, v in builder.info.features.items() if isinstance(v, tfds.features.Image)]
        decoders = {name: tfds.decode.SkipDecoding() for name in images}
        try:
            self._source = builder.as_data_source(split=split, decoders=decoders)
        except Exception as error:  # whatever damaged files make TFDS raise
            raise UserError(
                f"cannot open {self.name}: {describe_error(error)}; {self.fix_hint}"
            ) from error

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> EncodedImage:
        example = self._source[index]
        return EncodedImage(example["image"], int(example["label"]))

    def where(self, index: int) -> str:
        return f"record {index} of {self.name}"


def open_splits(
    name: str, data_dir: str, test_share: float = 0.0
) -> tuple[TfdsRecords, TfdsRecords]:
    """The training split, and the first of `test` and `validation` that has labels.

    The labels of a contest's test split may be secret: that of `imagenet2012` has none.

    Raises:
      UserError: as `tfds_builder.open_prepared`, or the images are not of 8 bits, or no split has
        the labels to test with.
    """
    builder = tfds_builder.open_prepared(name, data_dir, "image", test_share)
    dtype = np.dtype(builder.info.features["image"].np_dtype)
    if dtype != np.uint8:
        raise UserError(
            f"{name} has images of type {dtype.name}; only uint8 images are streamed; choose "
            "another --config.data.name"
        )
    train, test_splits = tfds_builder.splits(builder.info.splits, test_share)
    tests = [TfdsRecords(builder, name, split) for split in test_splits]
    labels = [_first_label(records) for records in tests]
    for records, label in zip(tests, labels, strict=True):
        if label >= 0:
            return TfdsRecords(builder, name, train), records
    raise bad_label(tests[0], 0, labels[0])


def _first_label(records: TfdsRecords) -> int:
    try:
        return records[0].label if len(records) else -1
    except Exception as error:  # whatever damaged files make TFDS raise
        raise damaged(records, 0, error) from error
