"""The inputs of a batch on the device: augmentation, scaling and standardization."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from train.config.schema import MEASURE
from train.errors import UserError

PADDING = 0
"""The token id in front of a text that is shorter than `config.data.length`."""


def is_text(config: ConfigDict) -> bool:
    """Return whether the inputs are token ids; otherwise they are pixels."""
    return config.data.vocabulary > 0


def example_unit(config: ConfigDict) -> str:
    """Return the plural noun for the examples: "images" or "texts"."""
    return "texts" if is_text(config) else "images"


def dtype(config: ConfigDict) -> Any:
    """Return the dtype of a batch's raw inputs."""
    return np.uint16 if is_text(config) else np.uint8


def to_model_inputs(
    inputs: jax.Array,
    config: ConfigDict,
    augment_key: jax.Array | None = None,
    perturb: Callable[[jax.Array], jax.Array] | None = None,
) -> jax.Array:
    """Return what the model is applied to: standardized pixels, or token ids.

    Args:
      inputs: The raw inputs of a batch: uint8 images (batch, height, width, channels), or uint16
        token ids (batch, length).
      config: A validated config.
      augment_key: The random key of the augmentation; None in evaluation.
      perturb: Changes float32 pixels in 0..1 before they are standardized, such as an attack.

    Returns:
      An array of the same shape: float32 pixels, or int32 token ids.
    """
    if is_text(config):
        return inputs.astype(jnp.int32)
    images = inputs if augment_key is None else augment(augment_key, inputs, config)
    pixels = to_pixels(images)
    return standardize(pixels if perturb is None else perturb(pixels), config)


def augment(key: jax.Array, images: jax.Array, config: ConfigDict) -> jax.Array:
    """Return uint8 images after random crops and random horizontal flips.

    A crop is taken from the image with `config.data.pad` black pixels on each side.
    """
    crop_key, flip_key = jax.random.split(key)
    if config.data.pad:
        images = _random_crop(crop_key, images, config.data.pad)
    if config.data.flip:
        flip = jax.random.bernoulli(flip_key, shape=(len(images), 1, 1, 1))
        images = jnp.where(flip, images[:, :, ::-1], images)
    return images


def to_pixels(images: jax.Array) -> jax.Array:
    """Return uint8 images as float32 pixels in 0..1."""
    return images.astype(jnp.float32) / 255


def standardize(pixels: jax.Array, config: ConfigDict) -> jax.Array:
    """Return pixels minus `config.data.mean`, divided by `config.data.std`, per channel."""
    mean = jnp.asarray(config.data.mean, jnp.float32)[None, None, None]
    std = jnp.asarray(config.data.std, jnp.float32)[None, None, None]
    return (pixels - mean) / std


def check_channels(config: ConfigDict, channels: int) -> None:
    """Check that `config.data` has one mean and one standard deviation per channel.

    Those that are to be measured will have.

    Raises:
      UserError: If it has not.
    """
    for field in ("mean", "std"):
        if config.data[field] != MEASURE and len(config.data[field]) != channels:
            raise UserError(
                f"config.data.{field} has {len(config.data[field])} value(s), but the images of "
                f"{config.data.name} have {channels} channel(s); give one value per channel, or "
                "'measure'"
            )


def _random_crop(key: jax.Array, images: jax.Array, pad: int) -> jax.Array:
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * pad + 1)

    def crop(image, corner):
        return jax.lax.dynamic_slice(image, (*corner, 0), images.shape[1:])

    return jax.vmap(crop)(padded, corners)
