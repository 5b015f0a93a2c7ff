"""What centralization removed from a gradient, and how far weights left their hyperplane."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_gc._centralize import fan_in_mean
from optax_gc._layouts import FanIn
from optax_gc._plan import Axes, Planned, fan_in_size, plan


class RemovedFraction(NamedTuple):
    """What `removed_fraction` returns: shares between 0 and 1.

    Args:
      total: of the whole tree's squared norm, leaves that are left alone included.
      per_leaf: of each leaf's own squared norm; a tree of scalars, shaped like the updates.
    """

    total: jax.Array
    per_leaf: Any


class MeanDrift(NamedTuple):
    """What `mean_drift` returns: lengths in the weights' own unit.

    Args:
      distance: how far the whole tree left its hyperplanes, to be held against
        `optax.tree.norm(params)`.
      per_unit: how far each output unit's fan-in mean moved, and which way; a tree shaped like the
        parameters, whose arrays have a leaf's shape without its fan-in axes. A leaf that is left
        alone has the scalar 0.
    """

    distance: jax.Array
    per_unit: Any


def removed_fraction(
    updates: optax.Updates, axes: Axes = None, *, conv_only: bool = False
) -> RemovedFraction:
    r"""The share of a gradient's squared norm that `centralize` removes.

    $$\frac{|g - \Phi(g)|^2}{|g|^2} = \frac{\sum_j M \bar g_j^2}{|g|^2}$$

    with $\bar g_j$ the mean over the $M$ inputs of unit $j$. Pure noise of fan-in $M$ gives $1/M$
    on average; 0 says that centralization does nothing, 1 that nothing is left. It costs two
    reductions of each leaf and writes nothing of its size, so it can be logged from inside a jitted
    step. Give it the gradient as `centralize` sees it: after L2 decay, before Adam.

    Inside `jax.shard_map`, shards are summed over each leaf's `FanIn.mesh_axes` and over no others.

    Args:
      updates: gradients, any pytree; sums are taken in float32 or better.
      axes: where the fan-in is, as for `optax_gc.centralize`.
      conv_only: as for `optax_gc.centralize`.

    Returns:
      `total`, a scalar, and `per_leaf`, a tree of scalars shaped like `updates`. A leaf that is
      left alone has 0, as has a gradient of zeros.

    Raises:
      TypeError, ValueError: as `optax_gc.centralize` does at `update`.

    Example:
      >>> import jax.numpy as jnp, optax_gc
      >>> grads = {"kernel": jnp.array([[1.0, 3.0], [1.0, -3.0]]), "bias": jnp.full(2, 2.0)}
      >>> removed = optax_gc.diagnostics.removed_fraction(grads)
      >>> float(removed.per_leaf["kernel"]), float(removed.per_leaf["bias"])
      (0.10000000149011612, 0.0)
      >>> float(removed.total)  # 2 of 20 + 8
      0.0714285746216774

    References:
      Yong et al., Gradient Centralization: A New Optimization Technique for Deep Neural Networks,
      ECCV 2020, https://arxiv.org/abs/2004.01461
    """
    planned, structure = plan(updates, axes, conv_only)
    removed = [_removed_square(row.leaf, row.fan_in) for row in planned]
    whole = [_square(row.leaf, row.fan_in) for row in planned]
    shares = [_share(part, of) for part, of in zip(removed, whole, strict=True)]
    return RemovedFraction(
        _share(_sum(removed), _sum(whole)), _unflatten(structure, planned, shares)
    )


def mean_drift(
    params: optax.Params, params0: optax.Params, axes: Axes = None, *, conv_only: bool = False
) -> MeanDrift:
    r"""How far each unit's fan-in mean moved: 0, but for rounding, for SGD with centralization.

    A centralized gradient is orthogonal to $e = \mathbf 1/\sqrt M$, so with SGD, momentum and L2
    decay before the centralization each column $w_j$ stays for ever in the hyperplane
    $e^\top(w_j - w_{j,0}) = 0$ that it started in. Adam's division and decoupled decay leave it.

    $$\text{per unit: } \bar w_j - \bar w_{j,0},\qquad
    \text{distance: } \Big(\sum_j M\,(\bar w_j - \bar w_{j,0})^2\Big)^{1/2}$$

    where $\sqrt M\,|\bar w_j - \bar w_{j,0}| = |e^\top(w_j - w_{j,0})|$ is the distance of column
    $j$ from its hyperplane, and `distance` the norm of all of them.

    Args:
      params: the parameters now.
      params0: the parameters then, shaped alike.
      axes: where the fan-in is, as for `optax_gc.centralize`.
      conv_only: as for `optax_gc.centralize`.

    Returns:
      `distance`, a scalar, and `per_unit`, a tree of arrays; both in the weights' own unit and in
      float32 or better.

    Raises:
      TypeError: as `optax_gc.centralize` does at `init`.
      ValueError: likewise, or if `params` and `params0` differ in structure or in a leaf's shape.

    Example:
      >>> import jax.numpy as jnp, optax_gc
      >>> now = {"kernel": jnp.array([[1.0, 2.0], [3.0, 2.0]]), "bias": jnp.ones(2)}
      >>> then = {"kernel": jnp.array([[2.0, 1.0], [2.0, 1.0]]), "bias": jnp.zeros(2)}
      >>> drift = optax_gc.diagnostics.mean_drift(now, then)
      >>> drift.per_unit["kernel"].tolist(), float(drift.per_unit["bias"])
      ([0.0, 1.0], 0.0)
      >>> float(drift.distance)
      1.4142135381698608

    References:
      Yong et al., Gradient Centralization: A New Optimization Technique for Deep Neural Networks,
      ECCV 2020, https://arxiv.org/abs/2004.01461
    """
    planned, structure = plan(params, axes, conv_only)
    try:
        starts = structure.flatten_up_to(params0)
    except ValueError as error:
        raise ValueError(f"params0 is not a tree like params: {error}") from None
    moves = [_move(row, start) for row, start in zip(planned, starts, strict=True)]
    squares = [_removed_square(move, row.fan_in) for move, row in zip(moves, planned, strict=True)]
    per_unit = [_unit_means(move, row.fan_in) for move, row in zip(moves, planned, strict=True)]
    return MeanDrift(jnp.sqrt(_sum(squares)), _unflatten(structure, planned, per_unit))


def _removed_square(leaf: Any, fan_in: FanIn) -> jax.Array:
    """|mean|^2, summed over all the elements that the mean is subtracted from."""
    if not fan_in.axes:
        return _zero()
    copies = fan_in_size(leaf, fan_in)
    if fan_in.mesh_axes:
        copies *= jax.lax.axis_size(fan_in.mesh_axes)
    return copies * jnp.sum(_abs_square(fan_in_mean(jnp.asarray(leaf), fan_in)))


def _square(leaf: Any, fan_in: FanIn) -> jax.Array:
    if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return _zero()
    square = jnp.sum(_abs_square(_widened(leaf)))
    return jax.lax.psum(square, fan_in.mesh_axes) if fan_in.mesh_axes else square


def _move(row: Planned, start: Any) -> Any:
    if not row.fan_in.axes:
        return None
    if row.leaf.shape != getattr(start, "shape", None):
        raise ValueError(
            f"{row.path or 'the only leaf'} has shape {row.leaf.shape} in params and "
            f"{getattr(start, 'shape', None)} in params0"
        )
    return _widened(row.leaf) - _widened(start)


def _unit_means(move: Any, fan_in: FanIn) -> jax.Array:
    return jnp.squeeze(fan_in_mean(move, fan_in), fan_in.axes) if fan_in.axes else _zero()


def _share(part: jax.Array, whole: jax.Array) -> jax.Array:
    nothing = whole == 0
    return jnp.where(nothing, 0.0, part / jnp.where(nothing, 1.0, whole))


def _sum(scalars: list[jax.Array]) -> jax.Array:
    return sum(scalars, start=_zero())


def _widened(leaf: Any) -> jax.Array:
    return jnp.asarray(leaf, jnp.promote_types(leaf.dtype, jnp.float32))


def _abs_square(array: jax.Array) -> jax.Array:
    return (array.conj() * array).real


def _zero() -> jax.Array:
    return jnp.zeros([], jnp.float32)


def _unflatten(structure: Any, planned: list[Planned], values: list[jax.Array]) -> Any:
    """A tree of `values` with the holes of the tree that was planned."""
    kept = [
        row.leaf if row.leaf is None or isinstance(row.leaf, optax.MaskedNode) else value
        for row, value in zip(planned, values, strict=True)
    ]
    return jax.tree.unflatten(structure, kept)
