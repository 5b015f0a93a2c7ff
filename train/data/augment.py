"""What happens to a batch of uint8 images on the device."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict


def to_pixels(images: jax.Array) -> jax.Array:
    """uint8 images to float32 ones from 0 to 1."""
    return images.astype(jnp.float32) / 255


def standardize(pixels: jax.Array, config: ConfigDict) -> jax.Array:
    """float32 images from 0 to 1 to ones of mean 0 and deviation 1 per channel, by `config`."""
    mean = jnp.asarray(config.data.mean, jnp.float32)[None, None, None]
    std = jnp.asarray(config.data.std, jnp.float32)[None, None, None]
    return (pixels - mean) / std


def augment(key: jax.Array, images: jax.Array, config: ConfigDict) -> jax.Array:
    """Random crops from `config.data.pad` pixels of black, and flips; uint8 in, uint8 out."""
    crop_key, flip_key = jax.random.split(key)
    if config.data.pad:
        images = _random_crop(crop_key, images, config.data.pad)
    if config.data.flip:
        flip = jax.random.bernoulli(flip_key, shape=(len(images), 1, 1, 1))
        images = jnp.where(flip, images[:, :, ::-1], images)
    return images


def _random_crop(key: jax.Array, images: jax.Array, pad: int) -> jax.Array:
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * pad + 1)

    def crop(image, corner):
        return jax.lax.dynamic_slice(image, (*corner, 0), images.shape[1:])

    return jax.vmap(crop)(padded, corners)
