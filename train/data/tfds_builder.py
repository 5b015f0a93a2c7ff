"""Prepared TFDS classification sets: find, open, check and read them, without TensorFlow."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from train.config.paths import local_path
from train.data.dataset import Description
from train.data.records import damaged_error, label_error
from train.errors import UserError, describe_error
from train.tfds_names import check_name, prepare_command

FIX_HINT = "prepare the data set again, or choose another --config.data.name"
_TEST_SPLITS = ("test", "validation")
_FEATURE_TYPES = {"image": tfds.features.Image, "text": tfds.features.Text}
_DESCRIPTIONS = (".json", ".txt")  # files with the classes, the shapes and the numbers of records


def open_prepared(data: ConfigDict, feature: str) -> Any:
    """Return the builder of a prepared classification set; prepare it if TensorFlow is installed.

    Args:
      data: The `data` fields of a config.
      feature: The feature that is classified, "image" or "text".

    Raises:
      UserError: If TFDS does not know the name, if the data set is not prepared or its description
        is damaged, or if it is not a classification set with training and test examples.
    """
    name, folder, test_share = data.name, _data_folder(data.dir), data.test_share
    builder = _open_builder(name, folder)
    if not builder.info.splits:
        if importlib.util.find_spec("tensorflow") is None:
            raise UserError(
                f"{name} is not prepared in {builder.data_dir}; {_how_to_prepare(name, folder)}"
            )
        builder.download_and_prepare(file_format="array_record")
    splits = builder.info.splits
    _check_splits(name, splits, test_share)
    train, _ = split_names(splits, test_share)
    _check_features(data, builder.info.features, feature, splits[train].num_examples)
    return builder


def describe_images(data: ConfigDict) -> Description:
    """Return what TFDS knows about a set of images, prepared or not.

    Raises:
      UserError: If TFDS does not know the name, or if it is not an image classification set.
    """
    info = _open_builder(data.name, _data_folder(data.dir)).info
    image, _ = _classified_features(data, info.features, "image")
    if not data.image_size:
        check_fixed_shape(data.name, image)
    shape = (data.image_size, data.image_size, 3) if data.image_size else image.shape
    return _describe(data, info, "image", shape)


def describe_texts(data: ConfigDict) -> Description:
    """Return what TFDS knows about a set of texts, prepared or not.

    Raises:
      UserError: If TFDS does not know the name, or if it is not a text classification set.
    """
    info = _open_builder(data.name, _data_folder(data.dir)).info
    return _describe(data, info, "text", (data.length,))


def _describe(data: ConfigDict, info: Any, feature: str, shape: tuple[int, ...]) -> Description:
    _, label = _classified_features(data, info.features, feature)
    if not label.num_classes:
        raise UserError(
            f"the classes of {data.name} are not known before it is prepared; choose another "
            "--config.data.name"
        )
    num_train = None
    if "train" in info.splits:
        train, _ = split_names(info.splits, data.test_share)
        num_train = info.splits[train].num_examples
    return Description(label.num_classes, shape, num_train)


def check_fixed_shape(name: str, image: Any) -> None:
    """Check that all images of a set fit in one uint8 array.

    Raises:
      UserError: If they do not.
    """
    if all(image.shape) and image.np_dtype == np.uint8:
        return
    can_stream = image.np_dtype == np.uint8 and None in image.shape
    stream_hint = "set --config.data.image_size to stream it, or " if can_stream else ""
    raise UserError(
        f"{name} has images of shape {image.shape} and type {np.dtype(image.np_dtype).name}; "
        f"a data set in memory needs uint8 images of one size; {stream_hint}choose another "
        "--config.data.name"
    )


def split_names(splits: Any, test_share: float) -> tuple[str, list[str]]:
    """Return the training split, and the possible test splits, the preferred one first.

    Args:
      splits: The TFDS splits of a data set.
      test_share: 0 for a data set with its own test split. Otherwise the test split is this share
        of `train`, rounded to whole examples, at its end. The order of `train` is random but
        fixed, because TFDS shuffles a data set when it prepares it.
    """
    if not test_share:
        return "train", [split for split in _TEST_SPLITS if split in splits]
    count = splits["train"].num_examples
    num_train = count - round(count * test_share)
    return f"train[:{num_train}]", [f"train[{num_train}:]"]


def describe_split(builder: Any, name: str, split: str) -> str:
    """Return the name of a split for error messages."""
    return f"the split {split!r} of {name} in {builder.data_dir}"


def files(builder: Any, splits: set[str]) -> list[Path]:
    """Return the files with the records of some splits, and those that describe the data set."""
    records = [file for split in splits for file in record_files(builder, split)]
    folder = Path(builder.data_dir)
    return records + [file for file in folder.iterdir() if file.suffix in _DESCRIPTIONS]


def record_files(builder: Any, split: str) -> list[Path]:
    """Return the files with the records of a split."""
    return [Path(file) for file in builder.info.splits[split].filepaths]


def open_split(builder: Any, name: str, split: str, decoders: Any = None) -> Any:
    """Return a sequence of the examples of a split.

    Raises:
      UserError: If a file is missing or damaged.
    """
    try:
        return builder.as_data_source(split=split, decoders=decoders)
    except Exception as error:  # damaged files can raise many types
        raise UserError(
            f"cannot open {describe_split(builder, name, split)}: {describe_error(error)}; "
            f"{FIX_HINT}"
        ) from error


def read_examples(
    builder: Any, data: ConfigDict, split: str, feature: str
) -> Iterator[tuple[str, Any, int]]:
    """Yield `(record name, value of the feature, label)` for each example of a split, in order.

    Raises:
      UserError: If a file or a record is damaged, or if a label is not a class.
    """
    num_classes = builder.info.features[data.label].num_classes
    source = open_split(builder, data.name, split)
    for index in range(len(source)):
        record = f"record {index} of {describe_split(builder, data.name, split)}"
        try:
            example = source[index]
            value, label = example[feature], int(example[data.label])
        except Exception as error:  # damaged files can raise many types
            raise damaged_error(record, error, FIX_HINT) from error
        if not 0 <= label < num_classes:
            raise label_error(record, label, num_classes, FIX_HINT)
        yield record, value, label


def _data_folder(data_dir: str) -> str | None:
    if data_dir:
        return str(local_path("config.data.dir", data_dir))
    folder = os.environ.get("TFDS_DATA_DIR")
    return str(local_path("TFDS_DATA_DIR", folder)) if folder else None


def _open_builder(name: str, folder: str | None) -> Any:
    check_name(name, "config.data.name", "'digits', or ")
    if folder and os.path.exists(folder) and not os.path.isdir(folder):
        raise UserError(
            f"the data folder {folder} is a file; set --config.data.dir or TFDS_DATA_DIR to the "
            "folder that contains the TFDS data sets"
        )
    try:
        builder = tfds.builder(name, data_dir=folder, file_format="array_record")
        len(builder.info.splits)  # reads files, so damaged ones are reported here
    except tfds.core.registered.DatasetNotFoundError:
        raise UserError(
            f"config.data.name={name!r} is not 'digits' or a TFDS data set, and no data set of "
            f"that name is prepared in {folder or 'the data folder'}; choose a name from "
            "https://www.tensorflow.org/datasets/catalog, or set --config.data.dir or TFDS_DATA_DIR"
        ) from None
    except Exception as error:  # damaged files can raise many types
        _check_format(name, folder)
        raise UserError(
            f"TFDS cannot open {name} in {folder or 'its data folder'}: {describe_error(error)}; "
            f"{_how_to_prepare(name, folder)}"
        ) from error
    return builder


def _check_format(name: str, folder: str | None) -> None:
    """Raise UserError if a set is prepared in another format than array_record.

    TFDS refuses to build a set where it is prepared in another format, even with `--overwrite`.
    """
    try:
        builder = tfds.builder(name, data_dir=folder)
        formats = [found.value for found in builder.info.available_file_formats()]
    except Exception:  # damaged files can raise many types
        return
    if not builder.info.splits or "array_record" in formats:
        return
    # The builder's own root is the folder of the version if the set is not one of TFDS's.
    folders = Path(builder.data_dir).parents
    root = next(parent.parent for parent in folders if parent.name == builder.name)
    other = root.with_name(f"{root.name}_array_record")
    raise UserError(
        f"{name} is prepared in {builder.data_dir} as {', '.join(formats)}, but the trainer reads "
        "array_record, and TFDS does not build a set twice in one data folder; set "
        f"--config.data.dir={other}, and {_how_to_prepare(name, str(other))}"
    )


def _how_to_prepare(name: str, folder: str | None) -> str:
    return (
        f"prepare it once with: {prepare_command(name, folder)} (or set --config.data.dir or "
        "TFDS_DATA_DIR to a folder that has it)"
    )


def _check_splits(name: str, splits: Any, test_share: float) -> None:
    test_split = next((split for split in _TEST_SPLITS if split in splits), None)
    problem = (
        f"{name} has the splits {', '.join(splits) or 'none'}; training needs 'train' and one of "
        f"{', '.join(_TEST_SPLITS)}"
    )
    if "train" not in splits:
        raise UserError(f"{problem}; choose another --config.data.name")
    if test_share and test_split:
        raise UserError(
            f"config.data.test_share={test_share} is for data sets without a test split, but "
            f"{name} has the split {test_split!r}; set it to 0"
        )
    if not test_share and not test_split:
        raise UserError(
            f"{problem}; set config.data.test_share to the share of 'train' to test on, such as "
            "0.2, or choose another --config.data.name"
        )
    train, tests = split_names(splits, test_share)
    for split in (train, tests[0]):
        # TFDS raises an error when it looks up a part of an empty split.
        if not splits["train"].num_examples or not splits[split].num_examples:
            raise UserError(
                f"the split {split!r} of {name} is empty; choose another --config.data.name"
            )


def _check_features(data: ConfigDict, features: Any, feature: str, num_train: int) -> None:
    _, label = _classified_features(data, features, feature)
    if not 0 < (label.num_classes or 0) <= num_train:
        raise UserError(
            f"{data.name} has {label.num_classes or 'no'} classes and {num_train} training "
            "examples; each class needs at least one; choose another --config.data.name"
        )


def _classified_features(data: ConfigDict, features: Any, feature: str) -> tuple[Any, Any]:
    """Return the TFDS features of the classified examples and of their labels."""
    by_name = dict(features.items())
    example, label = by_name.get(feature), by_name.get(data.label)
    if not isinstance(example, _FEATURE_TYPES[feature]) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        labels = sorted(
            name for name, it in by_name.items() if isinstance(it, tfds.features.ClassLabel)
        )
        label_hint = f"set --config.data.label to {' or '.join(labels)}, or " if labels else ""
        raise UserError(
            f"{data.name} is not for {feature} classification: it needs the features {feature!r} "
            f"and {data.label!r}, but has {', '.join(features)}; "
            f"{label_hint}choose another --config.data.name, or set --config.data.vocabulary above "
            "0 for texts, and to 0 for images"
        )
    return example, label
