"""Prepared TFDS sets of images or texts with a class each: check, describe and read them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from train.data import tfds_builder
from train.data.dataset import Description
from train.data.records import damaged_error, label_error
from train.errors import UserError

_FEATURE_TYPES = {"image": tfds.features.Image, "text": tfds.features.Text}


def open_classified(data: ConfigDict, feature: str) -> Any:
    """Return the builder of a prepared classification set; prepare it if TensorFlow is installed.

    Args:
      data: The `data` fields of a config.
      feature: The feature that is classified, "image" or "text".

    Raises:
      UserError: See `tfds_builder.open_prepared`. Also if it is not such a classification set.
    """
    builder = tfds_builder.open_prepared(data)
    train, _ = tfds_builder.split_names(builder.info.splits, data.test_share)
    num_train = builder.info.splits[train].num_examples
    _, label = _classified_features(data, builder.info.features, feature)
    if not 0 < (label.num_classes or 0) <= num_train:
        raise UserError(
            f"{data.name} has {label.num_classes or 'no'} classes and {num_train} training "
            "examples; each class needs at least one; choose another --config.data.name"
        )
    return builder


def describe_images(data: ConfigDict) -> Description:
    """Return what TFDS knows about a set of images, prepared or not.

    Raises:
      UserError: If TFDS does not know the name, or if it is not an image classification set.
    """
    info = tfds_builder.open_builder(data).info
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
    info = tfds_builder.open_builder(data).info
    return _describe(data, info, "text", (data.length,))


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


def read_examples(
    builder: Any, data: ConfigDict, split: str, feature: str
) -> Iterator[tuple[str, Any, int]]:
    """Yield `(record name, value of the feature, label)` for each example of a split, in order.

    Raises:
      UserError: If a file or a record is damaged, or if a label is not a class.
    """
    num_classes = builder.info.features[data.label].num_classes
    source = tfds_builder.open_split(builder, data.name, split)
    for index in range(len(source)):
        record = f"record {index} of {tfds_builder.describe_split(builder, data.name, split)}"
        try:
            example = source[index]
            value, label = example[feature], int(example[data.label])
        except Exception as error:  # damaged files can raise many types
            raise damaged_error(record, error, tfds_builder.FIX_HINT) from error
        if not 0 <= label < num_classes:
            raise label_error(record, label, num_classes, tfds_builder.FIX_HINT)
        yield record, value, label


def _describe(data: ConfigDict, info: Any, feature: str, shape: tuple[int, ...]) -> Description:
    _, label = _classified_features(data, info.features, feature)
    if not label.num_classes:
        raise UserError(
            f"the classes of {data.name} are not known before it is prepared; choose another "
            "--config.data.name"
        )
    num_train = None
    if "train" in info.splits:
        train, _ = tfds_builder.split_names(info.splits, data.test_share)
        num_train = info.splits[train].num_examples
    return Description(label.num_classes, shape, num_train)


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
