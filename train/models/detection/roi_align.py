"""ROIAlign (He et al. 2017, arXiv 1703.06870): features of boxes, resampled to a fixed size.

Each box is divided into size x size cells. The value of a cell is the mean of samples x samples
bilinear samples at regular points of it. The center of a pixel is at half its side, as in
`aligned=True` of other libraries. On a feature pyramid, each box is read from one level (Lin et al.
2017, arXiv 1612.03144).

There are two implementations, as the samples are linear in the features and separable. For small
maps, two matrix products per level are the fastest. They read the whole map for each box, so for
large maps the values around each point are gathered instead. On a CPU, images are processed one
after another, so that their arrays stay in its caches.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from train.models.detection import boxes as box_ops

_SAMPLES = 2  # along each side of a cell, as in Detectron
_CANONICAL_SIZE = 224  # the size of a box that belongs to the level of stride 16, as in FPN
_CANONICAL_STRIDE = 16
_MAX_CELLS = 32 * 32  # the largest map for matrix products


def roi_align(
    pyramid: Sequence[jax.Array],
    strides: Sequence[int],
    boxes: jax.Array,
    size: int,
    canonical_size: float = _CANONICAL_SIZE,
) -> jax.Array:
    """Return the features of the boxes of images: (batch, n, size, size, features).

    There is no gradient for the boxes.

    Args:
      pyramid: The maps, each (batch, height, width, features), from fine to coarse.
      strides: The side of a cell of each map in pixels; each is twice the one before.
      boxes: (batch, n, 4), in pixels; inside the images.
      size: The number of cells along each side.
      canonical_size: As in `assign_levels`.
    """
    boxes = jax.lax.stop_gradient(boxes)
    levels = assign_levels(boxes, strides, canonical_size)
    small = pyramid[0].shape[1] * pyramid[0].shape[2] <= _MAX_CELLS
    method = multiply if small else gather

    def of_image(example: tuple[list[jax.Array], jax.Array, jax.Array]) -> jax.Array:
        maps, boxes, levels = example
        return method(maps, strides, boxes, levels, size)

    return jax.lax.platform_dependent(
        (list(pyramid), boxes, levels),
        cpu=functools.partial(jax.lax.map, of_image),
        default=jax.vmap(of_image),
    )


def assign_levels(
    boxes: jax.Array, strides: Sequence[int], canonical_size: float = _CANONICAL_SIZE
) -> jax.Array:
    """Return the index of the level of each box, int32 (...): equation 1 of the FPN paper.

    Args:
      boxes: (..., 4), in pixels.
      strides: Those of the levels.
      canonical_size: The square root of the area of the smallest boxes on the level of stride 16.

    Examples:
      >>> import jax.numpy as jnp
      >>> assign_levels(jnp.array([[0.0, 0, 20, 20], [0, 0, 224, 224], [0, 0, 999, 999]]), (8, 16))
      Array([0, 1, 1], dtype=int32)
    """
    scale = jnp.sqrt(box_ops.areas(boxes)) / canonical_size
    offset = math.log2(_CANONICAL_STRIDE / strides[0])
    level = jnp.floor(offset + jnp.log2(scale + 1e-6))
    return jnp.clip(level, 0, len(strides) - 1).astype(jnp.int32)


def multiply(
    pyramid: Sequence[jax.Array],
    strides: Sequence[int],
    boxes: jax.Array,
    levels: jax.Array,
    size: int,
) -> jax.Array:
    """Return the features of the boxes of one image by two matrix products per level.

    Args:
      pyramid: The maps, each (height, width, features).
      strides: As in `roi_align`.
      boxes: (n, 4).
      levels: The index of the level of each box, (n,).
      size: As in `roi_align`.
    """
    total: jax.Array | None = None
    for index, (features, stride) in enumerate(zip(pyramid, strides, strict=True)):
        height, width, _ = features.shape
        ys, xs = _points(boxes / stride, size, height, width)
        rows = tent(ys, height) * (levels == index)[:, None, None]
        columns = tent(xs, width)
        total_of_level = interpolate(features, rows, columns)
        total = total_of_level if total is None else total + total_of_level
    assert total is not None
    return total


def interpolate(features: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Return weighted sums of the rows and columns of a map: (n, size, size, features).

    Args:
      features: (height, width, features).
      rows: The weights of the rows, (n, size, height).
      columns: The weights of the columns, (n, size, width).
    """
    height, width, depth = features.shape
    count, size, _ = rows.shape
    rows, columns = (weights.astype(features.dtype) for weights in (rows, columns))
    # Products of matrices in their stored order, with one axis of the batch: on a CPU, they are
    # twice as fast as two calls of einsum.
    partial = rows.reshape(-1, height) @ features.reshape(height, width * depth)
    columns = jnp.broadcast_to(columns[:, None], (count, size, size, width))
    cells = columns.reshape(-1, size, width) @ partial.reshape(-1, width, depth)
    return cells.reshape(count, size, size, depth)


def gather(
    pyramid: Sequence[jax.Array],
    strides: Sequence[int],
    boxes: jax.Array,
    levels: jax.Array,
    size: int,
) -> jax.Array:
    """Return what `multiply` does, from the four values around each point."""
    shapes = jnp.asarray([features.shape[:2] for features in pyramid])[levels]
    counts = [features.shape[0] * features.shape[1] for features in pyramid]
    starts = jnp.asarray([sum(counts[:index]) for index in range(len(counts))])[levels]
    scaled = boxes / jnp.asarray(strides, boxes.dtype)[levels][:, None]
    heights, widths = shapes[:, :1], shapes[:, 1:]
    ys, xs = _points(scaled, size, heights, widths)
    values = jnp.concatenate([features.reshape(-1, features.shape[2]) for features in pyramid])
    total = jnp.zeros((), values.dtype)
    for row, row_weight in _neighbors(ys, heights):
        for column, column_weight in _neighbors(xs, widths):
            index = starts[:, None, None] + row[:, :, None] * widths[:, :, None] + column[:, None]
            weight = (row_weight[:, :, None] * column_weight[:, None])[..., None]
            found = values.at[index].get(mode="promise_in_bounds")
            total = total + weight.astype(values.dtype) * found
    count, features = len(boxes), values.shape[1]
    cells = total.reshape(count, size, _SAMPLES, size, _SAMPLES, features)
    return jnp.mean(cells, (2, 4))


def sample_points(low: jax.Array, high: jax.Array, size: int) -> jax.Array:
    """Return the points of samples along one side of boxes: (n,) and (n,) to (n, size * samples).

    The point 0 is the center of the first pixel.
    """
    steps = (jnp.arange(size * _SAMPLES, dtype=low.dtype) + 0.5) / (size * _SAMPLES)
    return low[:, None] + (high - low)[:, None] * steps[None] - 0.5


def tent(points: jax.Array, count: int) -> jax.Array:
    """Return the weights of linear interpolation, averaged over the samples of each cell.

    The weights of a point beyond the first or last pixel add up to less than 1, as if the map was
    surrounded by zeros.

    Args:
      points: (n, size * samples).
      count: The number of pixels.

    Returns:
      (n, size, count).
    """
    pixels = jnp.arange(count, dtype=points.dtype)[None, None]
    weights = jnp.maximum(1 - jnp.abs(points[:, :, None] - pixels), 0)
    return jnp.mean(weights.reshape(len(points), -1, _SAMPLES, count), 2)


def _points(
    boxes: jax.Array, size: int, heights: jax.Array | int, widths: jax.Array | int
) -> tuple[jax.Array, jax.Array]:
    """Return the y and x of all samples, (n, size * samples) each, limited to the map."""
    ys = sample_points(boxes[:, 1], boxes[:, 3], size)
    xs = sample_points(boxes[:, 0], boxes[:, 2], size)
    return jnp.clip(ys, 0, heights - 1), jnp.clip(xs, 0, widths - 1)


def _neighbors(points: jax.Array, counts: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """Return the pixel before and the pixel after each point, with their weights."""
    before = jnp.floor(points).astype(jnp.int32)
    share = points - before
    return [(before, 1 - share), (jnp.minimum(before + 1, counts - 1), share)]
