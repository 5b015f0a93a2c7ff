"""Any TFDS image-classification data set with images of any size, read record by record."""

import hashlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from train.data import records, tfds_builder, tfds_classification
from train.data.dataset import Fingerprint
from train.data.records import EncodedImage
from train.errors import UserError


class TfdsRecords:
    """A split of a prepared data set; its images stay encoded.

    Raises:
      UserError: If a file of the split is missing or damaged.
    """

    fix_hint = tfds_builder.FIX_HINT

    def __init__(self, builder: Any, data: ConfigDict, split: str):
        self._label = data.label
        label = builder.info.features[data.label]
        self.num_classes, self.class_names = label.num_classes, tuple(label.names)
        self.name = tfds_builder.describe_split(builder, data.name, split)
        # Skip decoding for every image feature: some data sets also have masks.
        images = [k for k, v in builder.info.features.items() if isinstance(v, tfds.features.Image)]
        decoders = {name: tfds.decode.SkipDecoding() for name in images}
        self._files = tfds_builder.record_files(builder, split)
        self._version = f"{builder.info.full_name} {split}"
        self._source = tfds_builder.open_split(builder, data.name, split, decoders)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> EncodedImage:
        example = self._source[index]
        return EncodedImage(example["image"], int(example[self._label]))

    def labels(self) -> None:
        """Return None: the labels are in the records."""

    def fingerprint(self) -> Fingerprint:
        """Return the fingerprint of the version and of the names and the sizes of the files."""
        digest = hashlib.sha256(self._version.encode())
        for file in sorted(self._files):
            digest.update(f"\n{file.name} {file.stat().st_size}".encode())
        return {"examples": len(self), "sha256": digest.hexdigest()}

    def record_name(self, index: int) -> str:
        """Return the number of a record and the name of its split."""
        return f"record {index} of {self.name}"


def open_splits(data: ConfigDict) -> tuple[TfdsRecords, TfdsRecords]:
    """Open the training split, and the first of `test` and `validation` that has labels.

    The labels of a competition's test split can be secret: that of `imagenet2012` has none.

    Raises:
      UserError: See `tfds_classification.open_classified`. Also if the images do not have 8 bits,
        or if no test split has labels.
    """
    builder = tfds_classification.open_classified(data, "image")
    dtype = np.dtype(builder.info.features["image"].np_dtype)
    if dtype != np.uint8:
        raise UserError(
            f"{data.name} has images of type {dtype.name}; only uint8 images are streamed; choose "
            "another --config.data.name"
        )
    train, test_splits = tfds_builder.split_names(builder.info.splits, data.test_share)
    tests = [TfdsRecords(builder, data, split) for split in test_splits]
    labels = [_first_label(test) for test in tests]
    for test, label in zip(tests, labels, strict=True):
        if label >= 0:
            return TfdsRecords(builder, data, train), test
    raise records.label_error(
        tests[0].record_name(0), labels[0], tests[0].num_classes, tests[0].fix_hint
    )


def _first_label(split: TfdsRecords) -> int:
    try:
        return split[0].label if len(split) else -1
    except Exception as error:  # TFDS raises many types for damaged records
        raise records.damaged_error(split.record_name(0), error, split.fix_hint) from error
