"""Which object a box belongs to (Ren et al. 2015, arXiv 1506.01497, section 3.1.2)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from train.models.detection import boxes as box_ops
from train.models.detection.settings import Matching

_TOLERANCE = 1e-5  # XLA may compute the same ratio twice with different rounding


class Objects(NamedTuple):
    """The objects of an image; see `train.data.detection.batch.DetectionBatch`."""

    boxes: jax.Array
    classes: jax.Array
    crowd: jax.Array


class Matches(NamedTuple):
    """The object of each box.

    Attributes:
      positive: bool, (n,); the boxes that belong to an object.
      negative: bool, (n,); the boxes that belong to the background. A box that is neither is
        ignored.
      objects: int32, (n,); the index of the object, for positive boxes.
    """

    positive: jax.Array
    negative: jax.Array
    objects: jax.Array


def match(boxes: jax.Array, usable: jax.Array, objects: Objects, settings: Matching) -> Matches:
    """Return the matches of the boxes of one image.

    A box belongs to the object with the highest intersection over union. If the box is among the
    best ones of other objects and `settings.lowest_best` applies, it belongs to the one of these
    with the highest value.

    Args:
      boxes: (n, 4).
      usable: bool, (n,); other boxes are ignored.
      objects: The objects, padding and crowd regions of the image.
      settings: The thresholds.
    """
    real = (objects.classes >= 0) & ~objects.crowd
    overlap = jnp.where(usable[:, None] & real[None], box_ops.iou(boxes, objects.boxes), 0)
    highest, owner = jnp.max(overlap, 1), jnp.argmax(overlap, 1)
    positive = highest >= settings.positive
    if settings.lowest_best is not None:
        best = jnp.max(overlap, 0)
        is_best = (overlap >= best[None] - _TOLERANCE) & (best >= settings.lowest_best)[None]
        is_best_of_any = jnp.any(is_best, 1)
        positive |= is_best_of_any
        owner = jnp.where(is_best_of_any, jnp.argmax(jnp.where(is_best, overlap, -1), 1), owner)
    region = (objects.classes >= 0) & objects.crowd
    share = jnp.where(region[None], box_ops.intersection_over_area(boxes, objects.boxes), 0)
    in_crowd = jnp.max(share, 1) >= settings.crowd
    positive &= usable
    negative = usable & ~positive & (highest < settings.negative) & ~in_crowd
    return Matches(positive, negative, owner)
