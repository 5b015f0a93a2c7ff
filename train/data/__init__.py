"""Where examples come from, in which order, and how they reach the device."""

from typing import TYPE_CHECKING

import jax
from ml_collections import ConfigDict

from train.data import subset
from train.data.dataset import Dataset, Description
from train.data.inputs import check_channels, is_text
from train.errors import UserError

if TYPE_CHECKING:
    from train.data.streaming.pipeline import Stream


def load(config: ConfigDict) -> "Dataset | Stream":
    """Reads the data set that `config.data` names, or opens it if it is to be streamed.

    Raises:
      UserError: there is no such data set, or it does not fit the config.
    """
    # Each source imports libraries that take a second, and a decoding process needs none of them.
    if config.data.image_size:
        from train.data.streaming import pipeline

        return pipeline.open(config, jax.process_index(), jax.process_count())
    if is_text(config):
        from train.data.in_memory import tfds_text

        return subset.take(config, tfds_text.load(config))
    if config.data.name == "digits":
        from train.data.in_memory import digits

        dataset = digits.load()
    else:
        from train.data.in_memory import tfds_images

        dataset = tfds_images.load(config.data.name, config.data.dir, config.data.test_share)
    _check_fit(config, dataset.input_shape)
    return subset.take(config, dataset)


def describe(config: ConfigDict) -> Description:
    """What a program must know of the data set that `config.data` names, which need not be here.

    Raises:
      UserError: there is no such data set, or it does not fit the config.
    """
    data = config.data
    # Which are always here, or of which nothing is known, or of which a part must be counted.
    if data.name in ("digits", "folder") or subset.names_one(config):
        dataset = load(config)
        return Description(dataset.num_classes, dataset.input_shape, dataset.num_train)
    from train.data import tfds_builder

    if is_text(config):
        return tfds_builder.describe_texts(data.name, data.dir, data.length, data.test_share)
    known = tfds_builder.describe_images(data.name, data.dir, data.image_size, data.test_share)
    _check_fit(config, known.input_shape)
    return known


def _check_fit(config: ConfigDict, input_shape: tuple[int, ...]) -> None:
    height, width, channels = input_shape
    check_channels(config, channels)
    if config.data.pad > min(height, width):
        raise UserError(
            f"config.data.pad={config.data.pad} is more than an image of {config.data.name}, which "
            f"is {height}x{width}; a crop could miss it; use at most {min(height, width)}"
        )
