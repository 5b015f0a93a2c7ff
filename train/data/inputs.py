"""What a batch's inputs become before a network is given them: the kinds that there are."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from train.data.augment import augment, standardize, to_pixels
from train.errors import UserError

PADDING = 0
"""What stands in front of a text that is too short, in place of the number of a word."""


def is_text(config: ConfigDict) -> bool:
    """Whether they are numbers of words; else they are pixels."""
    return config.data.vocabulary > 0


def example_unit(config: ConfigDict) -> str:
    """What a person calls the examples."""
    return "texts" if is_text(config) else "images"


def dtype(config: ConfigDict) -> Any:
    """That of a batch's inputs, before `values`."""
    return np.uint16 if is_text(config) else np.uint8


def values(inputs: jax.Array, config: ConfigDict, key: jax.Array | None = None) -> jax.Array:
    """Pixels from 0 to 1, of augmented images where there is a key; or numbers of words.

    Args:
      inputs: of a batch: uint8 images (batch, height, width, channels), or uint16 texts (batch,
        words).
      config: a validated config.
      key: of the augmentation; None in evaluation.

    Returns:
      float32 or int32, of the same shape.
    """
    if is_text(config):
        return inputs.astype(jnp.int32)
    return to_pixels(inputs if key is None else augment(key, inputs, config))


def standardized(values: jax.Array, config: ConfigDict) -> jax.Array:
    """What a network is given: pixels of mean 0 and deviation 1, and texts as they are."""
    return values if is_text(config) else standardize(values, config)


def check_channels(config: ConfigDict, channels: int) -> None:
    """Whether mean and deviation are those of images of so many channels.

    Raises:
      UserError: they are not.
    """
    for field in ("mean", "std"):
        if len(config.data[field]) != channels:
            raise UserError(
                f"config.data.{field} has {len(config.data[field])} numbers; the images of "
                f"{config.data.name} have {channels} channel(s), each needs one"
            )
