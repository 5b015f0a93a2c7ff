"""TrivialAugment on the device: one random operation for each image, of random strength.

Each operation is computed for the whole batch, and each image keeps one of the results: the shapes
are static, and the operations are cheap beside a network.

References:
  Müller and Hutter, TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation, ICCV 2021,
  https://arxiv.org/abs/2103.10158. The operations and their ranges are those of its wide space
  (table 4); Cubuk et al., RandAugment, 2020, https://arxiv.org/abs/1909.13719, describes them.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

_MAX_ANGLE = math.radians(135)
_MAX_SHEAR = 0.99
_MAX_SHIFT = 32 / 224  # of the side: 32 pixels of an ImageNet crop
_MAX_ENHANCEMENT = 0.99
_MIN_BITS = 2
_GRAY = (0.299, 0.587, 0.114)  # the share of red, green and blue in the brightness of a pixel


def trivial_augment(key: jax.Array, images: jax.Array) -> jax.Array:
    """Return images after one random operation each.

    The operations are the identity, rotation, shear and shift along both axes, brightness,
    contrast, color, sharpness, posterize, solarize, autocontrast and equalize. Pixels from outside
    the image are black.

    Args:
      key: The random key.
      images: uint8, (batch, height, width, channels), with one or three channels.

    Returns:
      uint8 images of the same shape.
    """
    which_key, strength_key = jax.random.split(key)
    count = len(_GEOMETRIC) + len(_COLOR)
    which = jax.random.randint(which_key, images.shape[:1], 0, count)
    strength = jax.random.uniform(strength_key, images.shape[:1], minval=-1)
    moved = jax.vmap(_warp)(images, jax.vmap(_matrix)(which, strength))
    return jax.vmap(_recolor)(moved, which - len(_GEOMETRIC), strength)


def _matrix(which: jax.Array, strength: jax.Array) -> jax.Array:
    """Return the map from output to input positions of an image: (2, 3)."""
    return jax.lax.switch(jnp.minimum(which, len(_GEOMETRIC)), [*_GEOMETRIC, _keep], strength)


def _keep(strength: jax.Array) -> jax.Array:
    del strength
    return jnp.array([[1.0, 0, 0], [0, 1, 0]])


def _rotate(strength: jax.Array) -> jax.Array:
    angle = strength * _MAX_ANGLE
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.array([[cos, sin, 0], [-sin, cos, 0]])


def _shear_x(strength: jax.Array) -> jax.Array:
    return jnp.array([[1, 0, 0], [strength * _MAX_SHEAR, 1, 0]])


def _shear_y(strength: jax.Array) -> jax.Array:
    return jnp.array([[1, strength * _MAX_SHEAR, 0], [0, 1, 0]])


def _shift_x(strength: jax.Array) -> jax.Array:
    return jnp.array([[1, 0, 0], [0, 1, strength * _MAX_SHIFT]])


def _shift_y(strength: jax.Array) -> jax.Array:
    return jnp.array([[1, 0, strength * _MAX_SHIFT], [0, 1, 0]])


_GEOMETRIC = [_keep, _rotate, _shear_x, _shear_y, _shift_x, _shift_y]


def _warp(image: jax.Array, matrix: jax.Array) -> jax.Array:
    """Return an image whose pixels are the nearest ones at the mapped positions.

    Positions are relative to the center, and the third column of the matrix is in image sides.
    """
    height, width, _ = image.shape
    center = jnp.array([height - 1, width - 1]) / 2
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    offsets = jnp.stack([rows, columns], axis=-1) - center[None, None]
    shift = matrix[:, 2] * jnp.array([height, width])
    source = jnp.round(offsets @ matrix[:, :2].T + (center + shift)[None, None]).astype(jnp.int32)
    row, column = source[..., 0], source[..., 1]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    pixels = image[jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)]
    return jnp.where(inside[..., None], pixels, 0).astype(image.dtype)


def _recolor(image: jax.Array, which: jax.Array, strength: jax.Array) -> jax.Array:
    """Return an image after a color operation; a negative `which` is the identity."""
    pixels = image.astype(jnp.float32)
    operations = [lambda pixels, strength: pixels, *_COLOR]
    changed = jax.lax.switch(jnp.maximum(which + 1, 0), operations, pixels, strength)
    return jnp.clip(jnp.round(changed), 0, 255).astype(image.dtype)


def _blend(other: jax.Array, pixels: jax.Array, strength: jax.Array) -> jax.Array:
    """Return pixels moved away from `other`, or towards it for a negative strength."""
    return other + (1 + strength * _MAX_ENHANCEMENT) * (pixels - other)


def _gray(pixels: jax.Array) -> jax.Array:
    if pixels.shape[-1] == 1:
        return pixels
    return jnp.sum(pixels * jnp.array(_GRAY)[None, None], axis=-1, keepdims=True)


def _brightness(pixels: jax.Array, strength: jax.Array) -> jax.Array:
    return _blend(jnp.zeros_like(pixels), pixels, strength)


def _contrast(pixels: jax.Array, strength: jax.Array) -> jax.Array:
    return _blend(jnp.full_like(pixels, jnp.round(jnp.mean(_gray(pixels)))), pixels, strength)


def _color(pixels: jax.Array, strength: jax.Array) -> jax.Array:
    return _blend(jnp.broadcast_to(_gray(pixels), pixels.shape), pixels, strength)


def _sharpness(pixels: jax.Array, strength: jax.Array) -> jax.Array:
    """Blend with a smoothed image; the pixels at the border are not smoothed."""
    height, width, _ = pixels.shape
    if min(height, width) < 3:
        return pixels
    kernel = jnp.array([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    shifted = [
        kernel[y, x] * pixels[y : height - 2 + y, x : width - 2 + x]
        for y in range(3)
        for x in range(3)
    ]
    return _blend(pixels.at[1:-1, 1:-1].set(sum(shifted)), pixels, strength)


def _posterize(pixels: jax.Array, strength: jax.Array) -> jax.Array:
    """Keep the upper 2 to 8 bits."""
    step = 2 ** jnp.round((8 - _MIN_BITS) * jnp.abs(strength))
    return jnp.floor(pixels / step) * step


def _solarize(pixels: jax.Array, strength: jax.Array) -> jax.Array:
    """Invert the pixels above a threshold."""
    return jnp.where(pixels >= 255 * (1 - jnp.abs(strength)), 255 - pixels, pixels)


def _autocontrast(pixels: jax.Array, strength: jax.Array) -> jax.Array:
    """Stretch each channel to 0..255."""
    del strength
    low = pixels.min(axis=(0, 1), keepdims=True)
    spread = pixels.max(axis=(0, 1), keepdims=True) - low
    return jnp.where(spread > 0, (pixels - low) * 255 / jnp.maximum(spread, 1), pixels)


def _equalize(pixels: jax.Array, strength: jax.Array) -> jax.Array:
    """Make the histogram of each channel flat, as Pillow's `ImageOps.equalize` does."""
    del strength

    def of_channel(channel: jax.Array) -> jax.Array:
        values = channel.astype(jnp.int32)
        histogram = jnp.bincount(values.ravel(), length=256)
        last = jnp.max(jnp.where(histogram > 0, jnp.arange(256), 0))
        step = (channel.size - histogram[last]) // 255
        table = (step // 2 + jnp.cumsum(histogram) - histogram) // jnp.maximum(step, 1)
        return jnp.where(step > 0, jnp.clip(table, 0, 255)[values].astype(channel.dtype), channel)

    return jax.vmap(of_channel, in_axes=-1, out_axes=-1)(pixels)


_COLOR: list[Callable[[jax.Array, jax.Array], jax.Array]] = [
    _brightness,
    _contrast,
    _color,
    _sharpness,
    _posterize,
    _solarize,
    _autocontrast,
    _equalize,
]
