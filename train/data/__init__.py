"""Data sets: reading them, the order of the examples, and the batch of a step."""

from typing import Any

import jax
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from train.config.detection import is_detection
from train.config.entry_point import HUGGING_FACE, is_entry_point
from train.data import inputs, subset
from train.data.batch import abstract_batch
from train.data.dataset import AnyDataset, Description
from train.data.inputs import check_channels, is_text
from train.errors import UserError


def load(config: ConfigDict) -> AnyDataset:
    """Load the data set that `config.data` describes, or open it if it is streamed.

    Raises:
      UserError: If there is no such data set, or if it does not fit the config.
    """
    # Imported here because the sources import libraries that take a second to load, and the data
    # workers, which import this package, need none of them.
    if is_detection(config):
        from train.data.detection import load as detection

        check_channels(config, 3)
        return detection.load(config)
    if config.data.image_size:
        from train.data.streaming import pipeline

        stream = pipeline.open_dataset(config, jax.process_index(), jax.process_count())
        dataset: AnyDataset = stream
        note = stream.note
        if config.data.in_memory:
            from train.data.in_memory import decoded

            whole, left_out = decoded.load(config, stream)
            dataset, note = subset.select(config, whole), note + left_out
        if note and jax.process_index() == 0:
            print(note)
        return dataset
    if is_entry_point(config.data.name):
        from train.data.in_memory import own

        return subset.select(config, own.load(config))
    if is_text(config):
        from train.data.in_memory import tfds_text

        return subset.select(config, tfds_text.load(config))
    if config.data.name == "digits":
        from train.data.in_memory import digits

        dataset = digits.load()
    else:
        from train.data.in_memory import tfds_images

        dataset = tfds_images.load(config.data)
    _check_images(config, dataset.input_shape)
    return subset.select(config, dataset)


def describe(config: ConfigDict) -> Description:
    """Return what is needed to compile for the data set, even if it is not prepared.

    Raises:
      UserError: If there is no such data set, or if it does not fit the config.
    """
    if is_detection(config):
        from train.data.detection import load as detection

        return detection.describe(config)
    data = config.data
    # Digits are always available, folders and own data have no description, and a subset must be
    # counted.
    if (
        data.name in ("digits", "folder")
        or data.name.startswith(HUGGING_FACE)
        or is_entry_point(data.name)
        or subset.is_requested(config)
    ):
        dataset = load(config)
        return Description(dataset.num_classes, dataset.input_shape, dataset.num_train)
    from train.data import tfds_classification

    if is_text(config):
        return tfds_classification.describe_texts(data)
    description = tfds_classification.describe_images(data)
    _check_images(config, description.input_shape)
    return description


def abstract_training_batch(
    config: ConfigDict, input_shape: tuple[int, ...], sharding: NamedSharding
) -> Any:
    """Return a training batch of `jax.ShapeDtypeStruct`s to compile with.

    Args:
      config: A validated config.
      input_shape: That of the `Description` of the data set.
      sharding: The sharding of the batch axis.
    """
    batch_size = config.data.batch_size
    if is_detection(config):
        from train.data.detection import example, load

        options = load.view_options(config)
        height, width = input_shape[:2]
        return example.abstract_batch(batch_size, (height, width), options, sharding)
    return abstract_batch(batch_size, input_shape, sharding, inputs.dtype(config))


def _check_images(config: ConfigDict, input_shape: tuple[int, ...]) -> None:
    height, width, channels = input_shape
    check_channels(config, channels)
    if config.data.pad > min(height, width):
        raise UserError(
            f"config.data.pad={config.data.pad} is larger than the {height}x{width} images of "
            f"{config.data.name}; use at most {min(height, width)}"
        )
