"""`centralize()`: the gradient transformation."""

import jax
import jax.numpy as jnp
import optax

from optax_gc._layouts import FanIn
from optax_gc._plan import Axes, fan_in_size, plan


def centralize(axes: Axes = None, *, conv_only: bool = False) -> optax.GradientTransformation:
    r"""Gradient centralization: subtracts from each weight's gradient its mean over the fan-in.

    For a weight whose column $w_j$ feeds output unit $j$ from $M$ inputs, with $\mathbf 1$ the
    vector of $M$ ones,

    $$\Phi(\nabla_{w_j} L) = \nabla_{w_j} L - \tfrac{1}{M}\,\mathbf 1\mathbf 1^\top\nabla_{w_j} L$$

    It is a projection: linear, self-adjoint, idempotent, never longer than the gradient. Put it in
    a chain after what adds to the gradient (L2 decay) and before what rescales it (Adam).

    A weight with a fan-in of one element is left alone, for its mean is itself and it would never
    move. So are integers, `float0`, empty leaves, `None` and `optax.MaskedNode`. Means are taken in
    float32 or better; shape, dtype and sharding are kept.

    Args:
      axes: where the fan-in is. `None` for the rule `by_name`; a rule, that is a callable
        `(path, leaf) -> FanIn` such as `last_axis_out`; or a pytree of `FanIn` shaped like the
        updates, which `infer_axes` makes from the model itself.
      conv_only: centralize convolution kernels only, the authors' GCC. A convolution is what a
        convolution consumes where `axes` tells (`FanIn.op`), else a weight of more than 3 axes.

    Returns:
      A stateless `optax.GradientTransformation`; its `update` needs no `params`.

    Raises:
      TypeError: at `init` or `update`, if `axes` yields something other than a `FanIn`.
      ValueError: at `init` or `update`, if the tree of axes does not fit, or an axis is out of
        range or named twice; the message names the leaf.

    Example:
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

    def init_fn(params: optax.Params) -> optax.EmptyState:
        plan(params, axes, conv_only)
        return optax.EmptyState()

    def update_fn(updates, state, params=None):
        del params
        planned, structure = plan(updates, axes, conv_only)
        centred = [
            leaf if not fan_in.axes else _centre(leaf, fan_in) for _, leaf, fan_in in planned
        ]
        return jax.tree.unflatten(structure, centred), state

    return optax.GradientTransformation(init_fn, update_fn)


def fan_in_mean(gradient: jax.Array, fan_in: FanIn) -> jax.Array:
    """The mean over the fan-in, one per output unit, in float32 or better; axes are kept."""
    wide = gradient if jnp.finfo(gradient.dtype).bits >= 32 else gradient.astype(jnp.float32)
    mean = jnp.mean(wide, fan_in.axes, keepdims=True)
    return jax.lax.pmean(mean, fan_in.mesh_axes) if fan_in.mesh_axes else mean


def _centre(gradient: jax.Array, fan_in: FanIn) -> jax.Array:
    gradient = jnp.asarray(gradient)
    if fan_in_size(gradient, fan_in) * jax.lax.axis_size(fan_in.mesh_axes) == 1:
        return gradient
    mean = fan_in_mean(gradient, fan_in)
    return (gradient.astype(mean.dtype) - mean).astype(gradient.dtype)
