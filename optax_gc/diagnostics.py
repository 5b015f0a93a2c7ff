"""Measure the share of a gradient that centralization removes, and the drift of fan-in means."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_gc._centralize import fan_in_mean
from optax_gc._layouts import FanIn
from optax_gc._plan import Axes, PlannedLeaf, fan_in_size, plan

__all__ = ["MeanDrift", "RemovedFraction", "mean_drift", "removed_fraction"]


class RemovedFraction(NamedTuple):
    """The result of `removed_fraction`: fractions between 0 and 1.

    Attributes:
      total: The fraction of the squared norm of the whole tree, including leaves that are left
        alone. A scalar.
      per_leaf: The fraction of each leaf's squared norm, as a tree of scalars with the structure of
        the updates.
    """

    total: jax.Array
    per_leaf: Any


class MeanDrift(NamedTuple):
    """The result of `mean_drift`: lengths in the unit of the weights.

    Attributes:
      distance: The distance of the parameters from their hyperplanes, a scalar. Compare it with
        `optax.tree.norm(params)`.
      per_unit: The signed change of the fan-in mean of each output unit, as a tree with the
        structure of the parameters. Each array has the shape of the leaf without its fan-in axes. A
        leaf that is left alone has the scalar 0.
    """

    distance: jax.Array
    per_unit: Any


def removed_fraction(
    updates: optax.Updates, axes: Axes = None, *, conv_only: bool = False
) -> RemovedFraction:
    r"""Return the fraction of a gradient's squared norm that `centralize` removes.

    $$\frac{|g - \Phi(g)|^2}{|g|^2} = \frac{\sum_j M \bar g_j^2}{|g|^2}$$

    where $\bar g_j$ is the mean over the $M$ inputs of unit $j$. The fraction is 0 if `centralize`
    changes nothing and 1 if it removes the whole gradient. White noise with fan-in $M$ gives $1/M$
    on average. The cost is two reductions per leaf, and no array of the size of the leaf is
    written, so it can be logged from inside a jitted step. Pass the gradient that `centralize`
    receives: after L2 decay and before Adam.

    Inside `jax.shard_map`, shards are summed over the `FanIn.mesh_axes` of each leaf only.

    Args:
      updates: Gradients, as a pytree of arrays. Sums are computed in float32 or higher precision.
      axes: The fan-in axes, as for `optax_gc.centralize`.
      conv_only: As for `optax_gc.centralize`.

    Returns:
      `total`, a scalar, and `per_leaf`, a tree of scalars with the structure of `updates`. The
      fraction is 0 for a leaf that is left alone and for a gradient of zeros.

    Raises:
      TypeError: As `optax_gc.centralize` does at `update`.
      ValueError: As `optax_gc.centralize` does at `update`.

    Examples:
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
    per_leaf = [_fraction(*squares) for squares in zip(removed, whole, strict=True)]
    total = _fraction(_sum(removed), _sum(whole))
    return RemovedFraction(total, _unflatten(structure, planned, per_leaf))


def mean_drift(
    params: optax.Params, params0: optax.Params, axes: Axes = None, *, conv_only: bool = False
) -> MeanDrift:
    r"""Return how far the fan-in mean of each output unit moved since `params0`.

    A centralized gradient is orthogonal to $e = \mathbf 1/\sqrt M$. With SGD, momentum and L2 decay
    before the centralization, each column $w_j$ therefore stays in its initial hyperplane
    $e^\top(w_j - w_{j,0}) = 0$, and the drift is zero except for rounding. Adam's division and
    decoupled weight decay move weights out of the hyperplane.

    $$\text{per unit: } \bar w_j - \bar w_{j,0},\qquad
    \text{distance: } \Big(\sum_j M\,(\bar w_j - \bar w_{j,0})^2\Big)^{1/2}$$

    where $\sqrt M\,|\bar w_j - \bar w_{j,0}| = |e^\top(w_j - w_{j,0})|$ is the distance of column
    $j$ from its hyperplane, and `distance` is the norm of these distances.

    Args:
      params: The current parameters, as a pytree of arrays.
      params0: The earlier parameters, with the structure and shapes of `params`.
      axes: The fan-in axes, as for `optax_gc.centralize`.
      conv_only: As for `optax_gc.centralize`.

    Returns:
      `distance`, a scalar, and `per_unit`, a tree of arrays. Both are in the unit of the weights
      and in float32 or higher precision.

    Raises:
      TypeError: As `optax_gc.centralize` does at `init`.
      ValueError: As `optax_gc.centralize` does at `init`, or if `params` and `params0` differ in
        structure or in the shape of a leaf.

    Examples:
      >>> import jax.numpy as jnp, optax_gc
      >>> params0 = {"kernel": jnp.array([[2.0, 1.0], [2.0, 1.0]]), "bias": jnp.zeros(2)}
      >>> params = {"kernel": jnp.array([[1.0, 2.0], [3.0, 2.0]]), "bias": jnp.ones(2)}
      >>> drift = optax_gc.diagnostics.mean_drift(params, params0)
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
        leaves0 = structure.flatten_up_to(params0)
    except ValueError as error:
        raise ValueError(f"params0 is not a tree like params: {error}") from None
    changes = [_change(row, leaf0) for row, leaf0 in zip(planned, leaves0, strict=True)]
    fan_ins = [row.fan_in for row in planned]
    squares = [_removed_square(*pair) for pair in zip(changes, fan_ins, strict=True)]
    per_unit = [_unit_means(*pair) for pair in zip(changes, fan_ins, strict=True)]
    return MeanDrift(jnp.sqrt(_sum(squares)), _unflatten(structure, planned, per_unit))


def _removed_square(leaf: Any, fan_in: FanIn) -> jax.Array:
    """Return the squared norm of the means, broadcast to the shape of the leaf."""
    if not fan_in.axes:
        return _zero()
    size = fan_in_size(leaf, fan_in)
    if fan_in.mesh_axes:
        size *= jax.lax.axis_size(fan_in.mesh_axes)
    return size * jnp.sum(_abs_square(fan_in_mean(jnp.asarray(leaf), fan_in)))


def _square(leaf: Any, fan_in: FanIn) -> jax.Array:
    if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return _zero()
    square = jnp.sum(_abs_square(_widen(leaf)))
    return jax.lax.psum(square, fan_in.mesh_axes) if fan_in.mesh_axes else square


def _change(row: PlannedLeaf, leaf0: Any) -> Any:
    if not row.fan_in.axes:
        return None
    if row.leaf.shape != getattr(leaf0, "shape", None):
        raise ValueError(
            f"{row.path or 'the only leaf'} has shape {row.leaf.shape} in params and "
            f"{getattr(leaf0, 'shape', None)} in params0"
        )
    return _widen(row.leaf) - _widen(leaf0)


def _unit_means(change: Any, fan_in: FanIn) -> jax.Array:
    return jnp.squeeze(fan_in_mean(change, fan_in), fan_in.axes) if fan_in.axes else _zero()


def _fraction(part: jax.Array, whole: jax.Array) -> jax.Array:
    is_zero = whole == 0
    return jnp.where(is_zero, 0.0, part / jnp.where(is_zero, 1.0, whole))


def _sum(scalars: list[jax.Array]) -> jax.Array:
    return sum(scalars, start=_zero())


def _widen(leaf: Any) -> jax.Array:
    return jnp.asarray(leaf, jnp.promote_types(leaf.dtype, jnp.float32))


def _abs_square(array: jax.Array) -> jax.Array:
    return (array.conj() * array).real


def _zero() -> jax.Array:
    return jnp.zeros([], jnp.float32)


def _unflatten(structure: Any, planned: list[PlannedLeaf], values: list[jax.Array]) -> Any:
    """Return a tree of `values` that keeps `None` and `MaskedNode` of the planned tree."""
    leaves = [
        row.leaf if row.leaf is None or isinstance(row.leaf, optax.MaskedNode) else value
        for row, value in zip(planned, values, strict=True)
    ]
    return jax.tree.unflatten(structure, leaves)
