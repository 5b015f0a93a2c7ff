"""The `centralize` gradient transformation."""

import jax
import jax.numpy as jnp
import optax

from optax_gc._layouts import FanIn
from optax_gc._plan import Axes, check_axes, fan_in_size, plan


def centralize(axes: Axes = None, *, conv_only: bool = False) -> optax.GradientTransformation:
    r"""Return a transformation that subtracts from each gradient its mean over the fan-in axes.

    For a weight whose column $w_j$ connects $M$ inputs to output unit $j$,

    $$\Phi(\nabla_{w_j} L) = \nabla_{w_j} L - \tfrac{1}{M}\,\mathbf 1\mathbf 1^\top\nabla_{w_j} L$$

    where $\mathbf 1$ is the vector of $M$ ones. $\Phi$ is an orthogonal projection: it is linear,
    self-adjoint and idempotent, and it never increases the norm of the gradient. In a chain, put it
    after transformations that add to the gradient (L2 weight decay) and before transformations that
    rescale it (Adam).

    A weight with a fan-in of one element is left unchanged: its gradient equals its own mean, so
    the weight would never be updated. Integers, `float0`, empty leaves, `None` and
    `optax.MaskedNode` are left unchanged too. Means are computed in float32 or higher precision.
    Shape, dtype and sharding are preserved.

    Args:
      axes: The fan-in axes of each weight. `None` for the rule `by_name`; a rule, which is a
        callable `(path, leaf) -> FanIn` such as `last_axis_out`; or a pytree of `FanIn` with the
        structure of the updates, as returned by `infer_axes`. Its leaves that the updates do not
        have, such as those of the batch statistics of an NNX module, are ignored.
      conv_only: Whether to centralize convolution kernels only (GCC in the authors' code). A
        weight is a convolution kernel if `FanIn.op` names a convolution. If `FanIn.op` is not
        known, a weight with more than 3 axes is taken to be one.

    Returns:
      A stateless `optax.GradientTransformation`. Its `update` does not need `params`.

    Raises:
      TypeError: If `axes` is something else, such as a model or a name.
      TypeError: At `init` or `update`, if `axes` gives something other than a `FanIn` for a leaf.
      ValueError: At `init` or `update`, if the tree of axes does not match the updates, or if an
        axis is out of range or repeated. The message names the leaf.

    Examples:
      >>> import jax.numpy as jnp, optax, optax_gc
      >>> tx = optax.chain(optax_gc.centralize(), optax.sgd(1.0))
      >>> params = {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}
      >>> grads = {"kernel": jnp.array([[1., 2., 3.], [3., 2., 1.]]), "bias": jnp.ones(3)}
      >>> updates, _ = tx.update(grads, tx.init(params))
      >>> updates["kernel"].tolist()
      [[1.0, -0.0, -1.0], [-1.0, -0.0, 1.0]]

    References:
      Yong et al., Gradient Centralization: A New Optimization Technique for Deep Neural Networks,
      ECCV 2020, https://arxiv.org/abs/2004.01461
    """

    check_axes(axes)

    def init_fn(params: optax.Params) -> optax.EmptyState:
        plan(params, axes, conv_only)
        return optax.EmptyState()

    def update_fn(updates, state, params=None):
        del params
        planned, structure = plan(updates, axes, conv_only)
        centralized = [
            _centralize(leaf, fan_in) if fan_in.axes else leaf for _, leaf, fan_in in planned
        ]
        return jax.tree.unflatten(structure, centralized), state

    return optax.GradientTransformation(init_fn, update_fn)


def fan_in_mean(gradient: jax.Array, fan_in: FanIn) -> jax.Array:
    """Return the mean over the fan-in axes, one per output unit.

    The result has float32 or higher precision. The reduced axes are kept with size 1.
    """
    wide = gradient if jnp.finfo(gradient.dtype).bits >= 32 else gradient.astype(jnp.float32)
    mean = jnp.mean(wide, fan_in.axes, keepdims=True)
    return jax.lax.pmean(mean, fan_in.mesh_axes) if fan_in.mesh_axes else mean


def is_own_mean(gradient: jax.Array, fan_in: FanIn) -> bool:
    """Return whether each mean is over one element, over all shards."""
    return fan_in_size(gradient, fan_in) * jax.lax.axis_size(fan_in.mesh_axes) == 1


def subtract_mean(array: jax.Array, fan_in: FanIn) -> jax.Array:
    """Return an array minus its mean over the fan-in axes, in float32 or higher precision."""
    mean = fan_in_mean(array, fan_in)
    return array.astype(mean.dtype) - mean


def _centralize(gradient: jax.Array, fan_in: FanIn) -> jax.Array:
    gradient = jnp.asarray(gradient)
    if is_own_mean(gradient, fan_in):
        return gradient
    return subtract_mean(gradient, fan_in).astype(gradient.dtype)
