"""Boxes: areas, overlaps, and the deltas that move one box onto another.

A box is x1, y1, x2, y2 in pixels. It is half-open: its width is x2 - x1, as in COCO.
"""

import math

import jax
import jax.numpy as jnp

MAX_LOG_SCALE = math.log(1000 / 16)
"""The largest change of a side in `decode`, as in Detectron."""

Weights = tuple[float, float, float, float]


def areas(boxes: jax.Array) -> jax.Array:
    """Return the areas of boxes, (..., 4) to (...); 0 if a side is negative."""
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the intersection over union of all pairs: (n, 4) and (m, 4) to (n, m).

    It is 0 for two boxes without area.

    Examples:
      >>> import jax.numpy as jnp
      >>> iou(jnp.array([[0.0, 0, 2, 2]]), jnp.array([[1.0, 0, 2, 2], [1.0, 0, 3, 2]]))[0].round(3)
      Array([0.5  , 0.333], dtype=float32)
    """
    overlap = intersections(a, b)
    return _divide(overlap, areas(a)[:, None] + areas(b)[None] - overlap)


def intersection_over_area(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the share of each box in `a` that is inside each box in `b`: (n, m).

    COCO compares boxes with crowd regions by this share.
    """
    return _divide(intersections(a, b), areas(a)[:, None])


def intersections(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the areas that all pairs have in common: (n, 4) and (m, 4) to (n, m)."""
    low = jnp.maximum(a[:, None, :2], b[None, :, :2])
    high = jnp.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = jnp.maximum(high - low, 0)
    return sides[..., 0] * sides[..., 1]


def encode(boxes: jax.Array, anchors: jax.Array, weights: Weights = (1, 1, 1, 1)) -> jax.Array:
    """Return the deltas that move anchors onto boxes (Girshick et al. 2014, arXiv 1311.2524).

    They are the moves of the center in units of the anchor's sides, and the logarithms of the
    ratios of the sides, each multiplied by its weight. A side of less than 1e-3 pixels counts as
    1e-3, so that padding gives finite deltas.

    Args:
      boxes: (..., 4).
      anchors: (..., 4).
      weights: Of the x and y of the center, the width and the height.
    """
    centers, sides = _centers_and_sides(boxes)
    anchor_centers, anchor_sides = _centers_and_sides(anchors)
    moves = (centers - anchor_centers) / anchor_sides
    return jnp.concatenate([moves, jnp.log(sides / anchor_sides)], -1) * _row(weights, boxes)


def decode(deltas: jax.Array, anchors: jax.Array, weights: Weights = (1, 1, 1, 1)) -> jax.Array:
    """Return the boxes of deltas, the inverse of `encode`.

    A side grows at most by a factor of 1000 / 16.

    Args:
      deltas: (..., 4).
      anchors: (..., 4).
      weights: As in `encode`.
    """
    deltas = deltas / _row(weights, deltas)
    anchor_centers, anchor_sides = _centers_and_sides(anchors)
    centers = anchor_centers + deltas[..., :2] * anchor_sides
    half_sides = anchor_sides * jnp.exp(jnp.minimum(deltas[..., 2:], MAX_LOG_SCALE)) / 2
    return jnp.concatenate([centers - half_sides, centers + half_sides], -1)


def clip(boxes: jax.Array, size: jax.Array) -> jax.Array:
    """Return the parts of boxes inside an image.

    Args:
      boxes: (n, 4).
      size: The height and width of the image, (2,).
    """
    height, width = size[0], size[1]
    limits = jnp.stack([width, height, width, height]).astype(boxes.dtype)
    return jnp.clip(boxes, 0, limits[None])


def _centers_and_sides(boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, jnp.maximum(high - low, 1e-3)


def _divide(part: jax.Array, whole: jax.Array) -> jax.Array:
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1), 0)


def _row(weights: Weights, like: jax.Array) -> jax.Array:
    return jnp.asarray(weights, like.dtype).reshape((1,) * (like.ndim - 1) + (4,))
