"""Greedy non-maximum suppression with static shapes.

The greedy algorithm takes the box with the highest score, drops the boxes that overlap it, and
continues with the rest. Its result is the only fixed point of "a box is kept if no kept box before
it overlaps it", with the boxes sorted by score. Iterating this rule from any start reaches the
fixed point, since each pass makes at least one more of the first boxes right. A few passes are
enough in practice, and each is one reduction over all pairs.
"""

import jax
import jax.numpy as jnp

from train.models.detection import boxes as box_ops


def nms(
    boxes: jax.Array,
    scores: jax.Array,
    threshold: float,
    groups: jax.Array | None = None,
) -> jax.Array:
    """Return which boxes are kept, bool (n,).

    Of two boxes with the same score, the first one counts as better. A box with a score of -inf or
    NaN, or with a coordinate that is not finite, is dropped and suppresses no other box.

    Args:
      boxes: (n, 4).
      scores: (n,).
      threshold: A box is dropped if its intersection over union with a better one is larger.
      groups: int32, (n,); only boxes of the same group, such as a class, suppress each other. None
        for one group.

    Examples:
      >>> import jax.numpy as jnp
      >>> boxes = jnp.array([[0.0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 29, 29]])
      >>> nms(boxes, jnp.array([0.5, 0.9, 0.1]), 0.5)
      Array([False,  True,  True], dtype=bool)
    """
    valid = is_valid(boxes, scores)
    order = jnp.argsort(jnp.where(valid, -scores, jnp.inf), stable=True)
    groups = None if groups is None else groups[order]
    kept = nms_sorted(boxes[order], valid[order], threshold, groups)
    return jnp.zeros_like(kept).at[order].set(kept)


def nms_sorted(
    boxes: jax.Array, valid: jax.Array, threshold: float, groups: jax.Array | None = None
) -> jax.Array:
    """Return which boxes are kept, as `nms` does, for boxes whose scores do not increase.

    Args:
      boxes: (n, 4).
      valid: bool, (n,); the boxes that can be kept.
      threshold: As in `nms`.
      groups: As in `nms`.
    """
    position = jnp.arange(len(boxes))
    clash = box_ops.iou(boxes, boxes) > threshold
    clash &= position[:, None] < position[None]  # the first axis is that of the better box
    if groups is not None:
        clash &= groups[:, None] == groups[None]

    def keep(kept: jax.Array) -> jax.Array:
        return valid & ~jnp.any(clash & kept[:, None], 0)

    def step(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        kept, _ = state
        new = keep(kept)
        return new, jnp.any(new != kept)

    kept, _ = jax.lax.while_loop(lambda state: state[1], step, (valid, jnp.any(valid)))
    return kept


def is_valid(boxes: jax.Array, scores: jax.Array) -> jax.Array:
    """Return which boxes have finite coordinates and a score above -inf: bool (n,)."""
    return jnp.isfinite(boxes).all(-1) & (scores > -jnp.inf)
