"""Any TFDS image-classification set that fits in memory, read without TensorFlow."""

import importlib.util
import os
import re
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from train.data.dataset import Dataset, Description, Split
from train.errors import UserError, reason, short

_NAME = re.compile(r"[a-zA-Z]\w*(/[\w.-]+)?(:\d+\.\d+\.\d+)?", re.ASCII)
_MAX_NAME = 200  # a folder is called so
_TEST_SPLITS = ("test", "validation")  # the first that the set has


def load(name: str, data_dir: str) -> Dataset:
    """Reads the training and the test split.

    Args:
      name: a TFDS name such as `cifar100` or `imdb_reviews/plain_text`.
      data_dir: the TFDS data folder; empty for `TFDS_DATA_DIR` or TFDS's default.

    Returns:
      The decoded data set.

    Raises:
      UserError: TFDS does not know the name, the set is not prepared, is damaged, or is no
        classification of images of one size.
    """
    folder = _folder(data_dir)
    builder = _prepared_builder(name, folder)
    test_split = _check_splits(name, builder.info.splits)
    _check_features(name, builder.info.features, builder.info.splits["train"].num_examples)
    return Dataset(
        train=_read(builder, name, "train"),
        test=_read(builder, name, test_split),
        num_classes=builder.info.features["label"].num_classes,
    )


def describe(name: str, data_dir: str, image_size: int) -> Description:
    """What TFDS knows of a set, prepared or not.

    Args:
      name: as in `load`.
      data_dir: as in `load`.
      image_size: height and width to which images are cropped; 0 for their own.

    Raises:
      UserError: TFDS does not know the name, or the set is no classification of images.
    """
    info = _builder(name, _folder(data_dir)).info
    image, label = _image_and_label(name, info.features)
    if not image_size:
        _check_one_size(name, image)
    if not label.num_classes:
        raise UserError(
            f"{name} has no classes that are known before it is prepared; choose another "
            "--config.data.name"
        )
    size = (image_size, image_size) if image_size else image.shape[:2]
    num_train = info.splits["train"].num_examples if "train" in info.splits else None
    return Description(label.num_classes, (*size, image.shape[-1]), num_train)


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
            f"config.data.name={short(name)} cannot be a data set; it must be 'digits', or a TFDS "
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
            f"TFDS cannot open {name} in {folder or 'its data folder'}: {reason(error)}; "
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


def _check_splits(name: str, splits: Any) -> str:
    test_split = next((split for split in _TEST_SPLITS if split in splits), None)
    if "train" not in splits or test_split is None:
        raise UserError(
            f"{name} has the splits {', '.join(splits) or 'none'}; training needs 'train' and one "
            f"of {', '.join(_TEST_SPLITS)}; choose another --config.data.name"
        )
    for split in ("train", test_split):
        if not splits[split].num_examples:
            raise UserError(
                f"the split {split!r} of {name} is empty; choose another --config.data.name"
            )
    return test_split


def _check_features(name: str, features: Any, num_examples: int) -> None:
    image, label = _image_and_label(name, features)
    _check_one_size(name, image)
    if not 0 < (label.num_classes or 0) <= num_examples:
        raise UserError(
            f"{name} has {label.num_classes or 'no'} classes and {num_examples} examples to train "
            "on; a classification needs an example of each class; choose another --config.data.name"
        )


def _image_and_label(name: str, features: Any) -> tuple[Any, Any]:
    by_name = dict(features.items())
    image, label = by_name.get("image"), by_name.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise UserError(
            f"{name} is no image classification: it needs the features 'image' and 'label', "
            f"and has {', '.join(features)}; choose another --config.data.name"
        )
    return image, label


def _check_one_size(name: str, image: Any) -> None:
    if not all(image.shape) or image.np_dtype != np.uint8:
        raise UserError(
            f"{name} has images of shape {image.shape} and type {np.dtype(image.np_dtype).name}; "
            "a data set in memory needs uint8 images of one size; choose another --config.data.name"
        )


def _read(builder: Any, name: str, split: str) -> Split:
    features = builder.info.features
    shape, num_classes = features["image"].shape, features["label"].num_classes
    where = f"the split {split!r} of {name} in {builder.data_dir}"
    mend = "prepare the set again, or choose another --config.data.name"
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
