"""Anchors on a feature pyramid (Ren et al. 2015, arXiv 1506.01497; Lin et al. 2017, arXiv
1612.03144).

Each cell of a level has one anchor for each ratio, around the center of the cell.
"""

import jax
import numpy as np
from numpy.typing import NDArray


def level_anchors(
    shape: tuple[int, int], stride: int, size: float, ratios: tuple[float, ...]
) -> NDArray[np.float32]:
    """Return the anchors of one level, (height * width * ratios, 4), in the order of the cells.

    Args:
      shape: The height and width of the level in cells.
      stride: The side of a cell in pixels.
      size: The square root of the area of each anchor, in pixels.
      ratios: The height of each anchor divided by its width.

    Examples:
      >>> level_anchors((1, 2), 8, 16, (1.0,)).tolist()
      [[-4.0, -4.0, 12.0, 12.0], [4.0, -4.0, 20.0, 12.0]]
    """
    roots = np.sqrt(np.asarray(ratios))
    half_sides = np.stack([size / roots, size * roots], -1) / 2
    at_origin = np.concatenate([-half_sides, half_sides], -1)
    ys, xs = ((np.arange(count) + 0.5) * stride for count in shape)
    centers = np.stack(np.meshgrid(xs, ys), -1)
    anchors = np.tile(centers, 2)[:, :, None] + at_origin
    return anchors.reshape(-1, 4).astype(np.float32)


def inside(anchors: jax.Array, size: jax.Array, border: float | None) -> jax.Array:
    """Return which anchors training uses, bool (n,).

    An anchor whose center is in the padding is never used.

    Args:
      anchors: (n, 4).
      size: The height and width of the image without its padding, (2,).
      border: How many pixels an anchor may extend beyond the image; None for any number.
    """
    limits = size[::-1].astype(anchors.dtype)[None]
    used = ((anchors[:, :2] + anchors[:, 2:]) / 2 < limits).all(1)
    if border is None:
        return used
    return used & (anchors[:, :2] >= -border).all(1) & (anchors[:, 2:] <= limits + border).all(1)
