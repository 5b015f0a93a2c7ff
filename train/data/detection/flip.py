"""Horizontal flips of images with their objects."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from train.data.detection.batch import DetectionBatch


def random_flip(key: jax.Array, batch: DetectionBatch) -> DetectionBatch:
    """Return a batch on the device with each image flipped with probability 1/2."""
    return flip(batch, jax.random.bernoulli(key, shape=batch.ids.shape))


def flip(batch: DetectionBatch, flipped: jax.Array) -> DetectionBatch:
    """Return a batch with some of its images flipped horizontally; the padding stays at the right.

    Args:
      batch: The batch.
      flipped: bool, (batch,); which images are flipped.
    """
    widths = batch.sizes[:, 1]
    boxes = flip_boxes(batch.boxes, widths[:, None].astype(jnp.float32))
    is_object = batch.classes[..., None] >= 0
    return batch._replace(
        inputs=jnp.where(_expand(flipped, 4), _flip_images(batch.inputs, widths), batch.inputs),
        boxes=jnp.where(_expand(flipped, 3) & is_object, boxes, batch.boxes),
        masks=jnp.where(_expand(flipped, 4), batch.masks[..., ::-1], batch.masks),
    )


def flip_boxes(boxes: Any, width: Any) -> Any:
    """Return boxes of NumPy or JAX, (..., 4), in an image that is flipped horizontally.

    Args:
      boxes: x1, y1, x2, y2.
      width: The width of the image, without its padding; a number or an array like `boxes[..., 0]`.

    >>> flip_boxes(np.array([[1.0, 2.0, 4.0, 8.0]]), 10.0)
    array([[6., 2., 9., 8.]])
    """
    namespace = jnp if isinstance(boxes, jax.Array) else np
    x1, y1, x2, y2 = (boxes[..., side] for side in range(4))
    return namespace.stack([width - x2, y1, width - x1, y2], axis=-1)


def _flip_images(images: jax.Array, widths: jax.Array) -> jax.Array:
    """Return all images flipped within their widths."""
    total = images.shape[2]
    # Flipping moves the padding to the left. Columns of zeros at the right replace it.
    mirrored = jnp.pad(images[:, :, ::-1], ((0, 0), (0, 0), (0, total), (0, 0)))

    def without_left_padding(image: jax.Array, width: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(image, total - width, total, axis=1)

    return jax.vmap(without_left_padding)(mirrored, widths)


def _expand(array: jax.Array, ndim: int) -> jax.Array:
    return array.reshape(-1, *(1,) * (ndim - 1))
