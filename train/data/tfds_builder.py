"""TFDS's prepared classification sets: found, opened and checked without TensorFlow."""

import importlib.util
import os
import re
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from train.data.dataset import Description
from train.errors import UserError, describe_error, short_repr

FIX_HINT = "prepare the set again, or choose another --config.data.name"
_NAME = re.compile(r"[a-zA-Z]\w*(/[\w.-]+)?(:\d+\.\d+\.\d+)?", re.ASCII)
_MAX_NAME = 200  # a folder is called so
_TEST_SPLITS = ("test", "validation")
_KINDS = {"image": tfds.features.Image, "text": tfds.features.Text}


def open_prepared(name: str, data_dir: str, kind: str, test_share: float = 0.0) -> Any:
    """The builder of a classification set that is prepared.

    Args:
      name: a TFDS name such as `cifar100` or `imdb_reviews/plain_text`.
      data_dir: the TFDS data folder; empty for `TFDS_DATA_DIR` or TFDS's default.
      kind: of what is classified, `image` or `text`; the feature is called so.
      test_share: as for `splits`.

    Raises:
      UserError: TFDS does not know the name, the set is not prepared, its description is damaged,
        or it is no classification of that kind with something to train on and to test.
    """
    builder = _prepared_builder(name, _folder(data_dir))
    all_splits = builder.info.splits
    _check_splits(name, all_splits, test_share)
    train, _ = splits(all_splits, test_share)
    _check_features(name, builder.info.features, kind, all_splits[train].num_examples)
    return builder


def describe_images(
    name: str, data_dir: str, image_size: int, test_share: float = 0.0
) -> Description:
    """What TFDS knows of a set of images, prepared or not.

    Args:
      name: as in `open_prepared`.
      data_dir: as in `open_prepared`.
      image_size: height and width to which images are cropped; 0 for their own.
      test_share: as for `splits`.

    Raises:
      UserError: TFDS does not know the name, or the set is no classification of images.
    """
    info = _builder(name, _folder(data_dir)).info
    image, _ = _example(name, info.features, "image")
    if not image_size:
        check_size(name, image)
    shape = (image_size, image_size, 3) if image_size else image.shape
    return _describe(name, info, "image", shape, test_share)


def describe_texts(name: str, data_dir: str, length: int, test_share: float = 0.0) -> Description:
    """What TFDS knows of a set of texts, prepared or not.

    Args:
      name: as in `open_prepared`.
      data_dir: as in `open_prepared`.
      length: words of a text.
      test_share: as for `splits`.

    Raises:
      UserError: TFDS does not know the name, or the set is no classification of texts.
    """
    info = _builder(name, _folder(data_dir)).info
    return _describe(name, info, "text", (length,), test_share)


def _describe(
    name: str, info: Any, kind: str, shape: tuple[int, ...], test_share: float
) -> Description:
    _, label = _example(name, info.features, kind)
    if not label.num_classes:
        raise UserError(
            f"{name} has no classes that are known before it is prepared; choose another "
            "--config.data.name"
        )
    num_train = None
    if "train" in info.splits:
        train, _ = splits(info.splits, test_share)
        num_train = info.splits[train].num_examples
    return Description(label.num_classes, shape, num_train)


def check_size(name: str, image: Any) -> None:
    """Whether the images of a set fit into one array.

    Raises:
      UserError: they do not.
    """
    if all(image.shape) and image.np_dtype == np.uint8:
        return
    of_any_size = image.np_dtype == np.uint8 and None in image.shape
    streamed = "set --config.data.image_size to stream it, or " if of_any_size else ""
    raise UserError(
        f"{name} has images of shape {image.shape} and type {np.dtype(image.np_dtype).name}; "
        f"a data set in memory needs uint8 images of one size; {streamed}choose another "
        "--config.data.name"
    )


def splits(of_set: Any, test_share: float) -> tuple[str, list[str]]:
    """What is trained on, and the splits that can be tested on, the one to prefer first.

    Args:
      of_set: TFDS's splits of a set.
      test_share: if 0, sets are tested on a split that they have; else they have none, and are
        tested on so large a share of `train`, rounded to whole examples, at its end. TFDS
        shuffles a set when it prepares it, always in the same way.
    """
    if not test_share:
        return "train", [split for split in _TEST_SPLITS if split in of_set]
    count = of_set["train"].num_examples
    rest = count - round(count * test_share)
    return f"train[:{rest}]", [f"train[{rest}:]"]


def where(builder: Any, name: str, split: str) -> str:
    """A split, as an error calls it."""
    return f"the split {split!r} of {name} in {builder.data_dir}"


def _folder(data_dir: str) -> str | None:
    return os.path.expanduser(data_dir or os.environ.get("TFDS_DATA_DIR", "")) or None


def _prepared_builder(name: str, folder: str | None) -> Any:
    builder = _builder(name, folder)
    if builder.info.splits:
        return builder
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"{name} is not prepared in {builder.data_dir}; {_prepare_it(name, folder)}"
        )
    builder.download_and_prepare(file_format="array_record")
    return builder


def _builder(name: str, folder: str | None) -> Any:
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
        raise UserError(
            f"config.data.name={short_repr(name)} cannot be a data set; it must be 'digits', or a TFDS "
            "name such as 'cifar100' or 'imdb_reviews/plain_text'"
        )
    if folder and os.path.exists(folder) and not os.path.isdir(folder):
        raise UserError(
            f"the data folder {folder} is a file; point --config.data.dir or TFDS_DATA_DIR to the "
            "folder in which TFDS's data sets lie"
        )
    try:
        builder = tfds.builder(name, data_dir=folder, file_format="array_record")
        len(builder.info.splits)  # here and not later, because it reads files
    except tfds.core.registered.DatasetNotFoundError:
        raise UserError(
            f"config.data.name={name!r} is neither 'digits' nor a TFDS data set, and no set of "
            f"that name is prepared in {folder or 'the data folder'}; see "
            "https://www.tensorflow.org/datasets/catalog for the names, or set --config.data.dir "
            "or TFDS_DATA_DIR"
        ) from None
    except Exception as error:  # whatever damaged files make TFDS raise
        raise UserError(
            f"TFDS cannot open {name} in {folder or 'its data folder'}: {describe_error(error)}; "
            f"{_prepare_it(name, folder)}"
        ) from error
    return builder


def _prepare_it(name: str, folder: str | None) -> str:
    where = f" --data_dir={folder}" if folder else ""
    return (
        "prepare it once with: pip install tensorflow && "
        f"tfds build {name} --file_format=array_record{where} "
        "(or point --config.data.dir or TFDS_DATA_DIR to a folder that has it)"
    )


def _check_splits(name: str, of_set: Any, test_share: float) -> None:
    test_split = next((split for split in _TEST_SPLITS if split in of_set), None)
    has = f"{name} has the splits {', '.join(of_set) or 'none'}"
    if "train" not in of_set:
        raise UserError(
            f"{has}; training needs 'train' and one of {', '.join(_TEST_SPLITS)}; choose another "
            "--config.data.name"
        )
    if test_share and test_split:
        raise UserError(
            f"{has}, so it is tested on {test_split!r}, and config.data.test_share={test_share} is "
            "for sets without a split to test on; set it to 0"
        )
    if not test_share and not test_split:
        raise UserError(
            f"{has}; training needs 'train' and one of {', '.join(_TEST_SPLITS)}; set "
            "config.data.test_share to the share of 'train' to test on, such as 0.2, or choose "
            "another --config.data.name"
        )
    train, tests = splits(of_set, test_share)
    for split in (train, tests[0]):
        # TFDS refuses to look up a part that is empty.
        if not of_set["train"].num_examples or not of_set[split].num_examples:
            raise UserError(
                f"the split {split!r} of {name} is empty; choose another --config.data.name"
            )


def _check_features(name: str, features: Any, kind: str, num_examples: int) -> None:
    _, label = _example(name, features, kind)
    if not 0 < (label.num_classes or 0) <= num_examples:
        raise UserError(
            f"{name} has {label.num_classes or 'no'} classes and {num_examples} examples to train "
            "on; a classification needs an example of each class; choose another --config.data.name"
        )


def _example(name: str, features: Any, kind: str) -> tuple[Any, Any]:
    """The features of what is classified, and of its label."""
    by_name = dict(features.items())
    example, label = by_name.get(kind), by_name.get("label")
    if not isinstance(example, _KINDS[kind]) or not isinstance(label, tfds.features.ClassLabel):
        raise UserError(
            f"{name} is no {kind} classification: it needs the features {kind!r} and 'label', and "
            f"has {', '.join(features)}; choose another --config.data.name, or set "
            "--config.data.vocabulary above 0 for texts, and to 0 for images"
        )
    return example, label
