"""Image-classification data sets of Hugging Face `datasets`, from the hub or from local files."""

import hashlib
import os
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from train.config.entry_point import HUGGING_FACE
from train.data.dataset import Fingerprint
from train.data.records import EncodedImage
from train.errors import UserError, describe_error, short_repr


class HuggingFaceImages:
    """A split; its images stay encoded.

    Attributes:
      class_names: The names of the classes.
      num_classes: The number of classes.
    """

    fix_hint = "repair or download the data set again"

    def __init__(self, split: Any, label: str, name: str):
        self._split, self._label, self._name = split, label, name
        feature = split.features[label]
        self.num_classes, self.class_names = feature.num_classes, tuple(feature.names)

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> EncodedImage:
        row = self._split[index]
        image = row["image"]
        content = image["bytes"]
        if content is None:
            with open(image["path"], "rb") as file:
                content = file.read()
        return EncodedImage(content, int(row[self._label]))

    def labels(self) -> np.ndarray:
        """Return the label of each example."""
        return np.asarray(self._split[self._label], np.int32)

    def fingerprint(self) -> Fingerprint:
        """Return the fingerprint of the labels and of the sizes of the files."""
        digest = hashlib.sha256(self.labels().tobytes())
        if self._split[0]["image"]["bytes"] is None:  # images in files of their own
            files = [row["image"]["path"] for row in self._split.select_columns("image")]
        else:
            files = [file["filename"] for file in self._split.cache_files]
        for file in files:
            digest.update(f" {os.path.getsize(file)}".encode())
        return {"examples": len(self), "sha256": digest.hexdigest()}

    def record_name(self, index: int) -> str:
        """Return the number of a record and the name of its split."""
        return f"record {index} of {self._name}"


def open_splits(data: ConfigDict) -> tuple[HuggingFaceImages, HuggingFaceImages]:
    """Open the training split, and the first of `test` and `validation` that has labels.

    Args:
      data: The `data` fields of a config: `name` is `hf:` and a name that `datasets.load_dataset`
        takes; `dir` is its `data_dir`, if not empty.

    Raises:
      UserError: If `datasets` is not installed or cannot load the data set, or if it has no images
        with classes or no split to test on.
    """
    name = data.name.removeprefix(HUGGING_FACE)
    try:
        import datasets
    except ImportError:
        raise UserError(
            f"config.data.name={data.name!r} needs datasets; run python -m pip install datasets"
        ) from None
    datasets.disable_progress_bars()
    try:
        splits = datasets.load_dataset(name, data_dir=data.dir or None)
    except Exception as error:  # datasets and the hub raise many types
        raise UserError(
            f"config.data.name={data.name!r}: datasets cannot load {short_repr(name)}: "
            f"{describe_error(error)}; for local files use hf:imagefolder or hf:parquet with "
            "config.data.dir"
        ) from error
    for split in splits.values():
        _check_features(datasets, data, split.features)
    train, test = _choose_splits(data, splits)
    return _open(datasets, data, splits[train], train), _open(datasets, data, splits[test], test)


def _choose_splits(data: ConfigDict, splits: Any) -> tuple[str, str]:
    if "train" not in splits:
        raise UserError(f"{data.name} has no split train, only {', '.join(splits)}; use another")
    if data.test_share:
        parts = splits["train"].train_test_split(data.test_share, seed=0)
        splits["train"], splits["the end of train"] = parts["train"], parts["test"]
        return "train", "the end of train"
    for test in ("test", "validation"):
        if test in splits and min(splits[test].unique(data.label), default=-1) >= 0:
            return "train", test
    raise UserError(
        f"{data.name} has no split test or validation with labels, only {', '.join(splits)}; set "
        "config.data.test_share to the share of train to test on"
    )


def _open(datasets: Any, data: ConfigDict, split: Any, name: str) -> HuggingFaceImages:
    encoded = split.cast_column("image", datasets.Image(decode=False))
    return HuggingFaceImages(encoded, data.label, f"{name} of {data.name}")


def _check_features(datasets: Any, data: ConfigDict, features: Any) -> None:
    """Raise UserError unless a split has images and their classes."""
    if not isinstance(features.get("image"), datasets.Image):
        raise UserError(
            f"{data.name} has no feature image with images, only {', '.join(features)}; rename the "
            "feature in a copy of the data set"
        )
    if not isinstance(features.get(data.label), datasets.ClassLabel):
        classes = [key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
        raise UserError(
            f"config.data.label={data.label!r} is not a feature with classes of {data.name}; use "
            f"one of {', '.join(classes) or 'another data set, this one has none'}"
        )
