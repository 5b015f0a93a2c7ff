"""Region proposal network (Ren et al. 2015, arXiv 1506.01497) on a feature pyramid."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from train.models.detection import boxes as box_ops
from train.models.detection import nms
from train.models.detection.settings import Proposals
from train.models.layers.conv import Conv, relu

_INIT = nnx.initializers.normal(0.01)


class RPN(nnx.Module):
    """A 3x3 convolution, and 1x1 convolutions for the score and the deltas of each anchor.

    All levels share the weights.

    Args:
      features: The features of the pyramid.
      num_ratios: The number of anchors of each cell.
      dtype: The dtype of the activations.
      rngs: For the initial parameters.
    """

    def __init__(self, features: int, num_ratios: int, *, dtype: Any, rngs: nnx.Rngs):
        options = {"use_bias": True, "kernel_init": _INIT, "dtype": dtype, "rngs": rngs}
        self.conv = Conv(features, features, (3, 3), **options)
        self.logits = Conv(features, num_ratios, (1, 1), **options)
        self.deltas = Conv(features, num_ratios * 4, (1, 1), **options)

    def __call__(self, pyramid: Sequence[jax.Array]) -> tuple[list[jax.Array], list[jax.Array]]:
        """Return logits (batch, anchors) and deltas (batch, anchors, 4) of each level, float32."""
        logits, deltas = [], []
        for features in pyramid:
            x, batch = relu(self.conv(features)), len(features)
            logits.append(self.logits(x).astype(jnp.float32).reshape(batch, -1))
            deltas.append(self.deltas(x).astype(jnp.float32).reshape(batch, -1, 4))
        return logits, deltas


class Proposed(NamedTuple):
    """The proposals of an image.

    Attributes:
      boxes: (n, 4); inside the image.
      scores: The logits, (n,), which do not increase; -inf for padding.
    """

    boxes: jax.Array
    scores: jax.Array


def propose(
    logits: Sequence[jax.Array],
    deltas: Sequence[jax.Array],
    anchors: Sequence[jax.Array],
    size: jax.Array,
    counts: Proposals,
    nms_threshold: float,
) -> Proposed:
    """Return the proposals of one image, a fixed number.

    The best boxes of each level are clipped to the image; NMS is applied to each level; and the
    best boxes of all levels remain. A box without area is dropped.

    Args:
      logits: Of the anchors of each level, (anchors,).
      deltas: Of the anchors of each level, (anchors, 4).
      anchors: Of each level, (anchors, 4).
      size: The height and width of the image without its padding, (2,).
      counts: The numbers of boxes.
      nms_threshold: The largest intersection over union of two proposals of a level.
    """
    levels = [
        _propose_on_level(*level, size, counts.candidates, nms_threshold)
        for level in zip(logits, deltas, anchors, strict=True)
    ]
    boxes, scores = (jnp.concatenate(parts) for parts in zip(*levels, strict=True))
    missing = max(0, counts.number - len(scores))
    boxes = jnp.pad(boxes, ((0, missing), (0, 0)))
    scores = jnp.pad(scores, (0, missing), constant_values=-jnp.inf)
    scores, order = jax.lax.top_k(scores, counts.number)
    return Proposed(jnp.where(jnp.isfinite(scores)[:, None], boxes[order], 0), scores)


def _propose_on_level(
    logits: jax.Array,
    deltas: jax.Array,
    anchors: jax.Array,
    size: jax.Array,
    candidates: int,
    nms_threshold: float,
) -> tuple[jax.Array, jax.Array]:
    logits = jnp.where(jnp.isnan(logits), -jnp.inf, logits)
    scores, order = jax.lax.top_k(logits, min(candidates, len(logits)))
    boxes = box_ops.clip(box_ops.decode(deltas[order], anchors[order]), size)
    valid = nms.is_valid(boxes, scores) & (box_ops.areas(boxes) > 0)
    kept = nms.nms_sorted(boxes, valid, nms_threshold)
    return boxes, jnp.where(kept, scores, -jnp.inf)
