"""What the heads should predict for the sampled boxes of one image."""

import jax
import jax.numpy as jnp

from train.models.detection import roi_align


def mask_targets(masks: jax.Array, objects: jax.Array, boxes: jax.Array, size: int) -> jax.Array:
    """Return the masks of objects inside boxes, float32 0 or 1, (n, size, size).

    A pixel is the mean of samples of the mask, rounded; it is 0 outside the object's box.

    Args:
      masks: uint8, (n, M, M); of the object of each box, cropped to the object's box.
      objects: The boxes of the objects, (n, 4).
      boxes: (n, 4).
      size: The number of pixels along each side.
    """
    side = masks.shape[-1]
    sides = jnp.maximum(objects[:, 2:] - objects[:, :2], 1e-3)
    low = (boxes[:, :2] - objects[:, :2]) / sides * side
    high = (boxes[:, 2:] - objects[:, :2]) / sides * side
    columns, rows = (
        roi_align.tent(roi_align.sample_points(low[:, axis], high[:, axis], size), side)
        for axis in (0, 1)
    )
    means = rows @ masks.astype(jnp.float32) @ columns.swapaxes(1, 2)
    return (means >= 0.5).astype(jnp.float32)
