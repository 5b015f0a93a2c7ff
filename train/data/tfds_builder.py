"""Prepared TFDS data sets: find, open, check and read them, without TensorFlow."""

import contextlib
import importlib.util
import io
import os
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from tensorflow_datasets.core import read_only_builder

from train.config.paths import local_path
from train.errors import UserError, describe_error
from train.tfds_names import check_name, prepare_command

FIX_HINT = "prepare the data set again, or choose another --config.data.name"
_TEST_SPLITS = ("test", "validation")
_DESCRIPTIONS = (".json", ".txt")  # files with the classes, the shapes and the numbers of records


def open_prepared(data: ConfigDict) -> Any:
    """Return the builder of a prepared data set; prepare it if TensorFlow is installed.

    Raises:
      UserError: See `open_builder`. Also if it is not prepared, or has no training or test split.
    """
    builder = open_builder(data)
    if not builder.info.splits:
        if importlib.util.find_spec("tensorflow") is None:
            hint = _how_to_prepare(data.name, _data_folder(data.dir))
            raise UserError(f"{data.name} is not prepared in {builder.data_dir}; {hint}")
        builder.download_and_prepare(file_format="array_record")
    _check_splits(data.name, builder.info.splits, data.test_share)
    return builder


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


def _data_folder(data_dir: str) -> str | None:
    if data_dir:
        return str(local_path("config.data.dir", data_dir))
    folder = os.environ.get("TFDS_DATA_DIR")
    return str(local_path("TFDS_DATA_DIR", folder)) if folder else None


def open_builder(data: ConfigDict) -> Any:
    """Return the builder of a data set, prepared or not.

    Raises:
      UserError: If TFDS does not know its name, or if its description is damaged.
    """
    name, folder = data.name, _data_folder(data.dir)
    check_name(name, "config.data.name", "'digits', or ")
    if folder and os.path.exists(folder) and not os.path.isdir(folder):
        raise UserError(
            f"the data folder {folder} is a file; set --config.data.dir or TFDS_DATA_DIR to the "
            "folder that contains the TFDS data sets"
        )
    try:
        builder = _find(name, folder)
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


def _find(name: str, folder: str | None) -> Any:
    place = {"data_dir": folder, "file_format": "array_record"}
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints how to install TensorFlow
            return tfds.builder(name, **place)
    except ModuleNotFoundError as error:
        try:
            # The program of COCO needs TensorFlow, also to define its features; its files do not.
            return read_only_builder.builder_from_files(name, **place)
        except tfds.core.registered.DatasetNotFoundError:
            raise error from None


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
