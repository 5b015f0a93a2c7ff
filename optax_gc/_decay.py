"""The `decay_and_centralize` gradient transformation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from optax_gc._centralize import is_own_mean, subtract_mean
from optax_gc._layouts import FanIn
from optax_gc._plan import Axes, check_axes, plan


def decay_and_centralize(
    weight_decay: ArrayLike,
    axes: Axes = None,
    *,
    conv_only: bool = False,
    mask: Any | Callable[[optax.Params], Any] | None = None,
) -> optax.GradientTransformation:
    r"""Return a transformation that adds L2 weight decay and then centralizes, in one pass.

    The result equals that of
    `optax.chain(optax.add_decayed_weights(weight_decay, mask), centralize(axes))`, except for
    rounding:

    $$\Phi(g + \lambda w) = g + \lambda w - (\bar g + \lambda\bar w)$$

    where $\bar g$ and $\bar w$ are the means of the gradient and of the weight over the fan-in
    axes. The means are computed apart, so the sum $g + \lambda w$ is not written to memory. On a
    GPU, where the gradient and the weight of a convolution often differ in their layout, this
    saves a kernel and a pass over memory for each weight.

    Args:
      weight_decay: $\lambda$, a number or a traced scalar. With the number 0, the result is that of
        `centralize`, and `update` does not need `params`.
      axes: The fan-in axes of each weight, as for `centralize`.
      conv_only: As for `centralize`. The decay is added to all weights.
      mask: As for `optax.add_decayed_weights`: a pytree of bools with the structure of `params` or
        a prefix of it, or a function of `params` that returns one. Leaves with False are
        centralized, but not decayed.

    Returns:
      A stateless `optax.GradientTransformation`. Its `update` needs `params`.

    Raises:
      TypeError: If `weight_decay` is a schedule; use `optax.inject_hyperparams` for one.
      ValueError: If `weight_decay` is a negative number, or at `update` without `params`.
      TypeError: For wrong axes, as `centralize` does.
      ValueError: For wrong axes, as `centralize` does.

    Examples:
      >>> import jax.numpy as jnp, optax, optax_gc
      >>> tx = optax.chain(optax_gc.decay_and_centralize(0.5), optax.sgd(1.0))
      >>> params = {"kernel": jnp.array([[8.0], [16.0]])}
      >>> grads = {"kernel": jnp.array([[1.0], [3.0]])}
      >>> tx.update(grads, tx.init(params), params)[0]["kernel"].tolist()  # of 5 and 11
      [[3.0], [-3.0]]

    References:
      Yong et al., Gradient Centralization: A New Optimization Technique for Deep Neural Networks,
      ECCV 2020, https://arxiv.org/abs/2004.01461
    """
    check_axes(axes)
    if callable(weight_decay):
        raise TypeError(
            "weight_decay must be a number, got a function; for a schedule, use "
            "optax.inject_hyperparams(optax_gc.decay_and_centralize)(weight_decay=schedule)"
        )
    has_decay = True
    if isinstance(weight_decay, int | float):
        if weight_decay < 0:
            raise ValueError(f"weight_decay must not be negative, got {weight_decay}")
        has_decay = weight_decay != 0

    def init_fn(params: optax.Params) -> optax.EmptyState:
        plan(params, axes, conv_only)
        return optax.EmptyState()

    def update_fn(updates, state, params=None):
        planned, structure = plan(updates, axes, conv_only)
        if params is None and has_decay:
            raise ValueError(
                "decay_and_centralize adds the parameters to the updates; pass them: "
                "update(updates, state, params)"
            )
        weights = structure.flatten_up_to(params) if has_decay else [None] * len(planned)
        is_decayed = _decayed_leaves(mask, params, structure) if has_decay else weights
        results = [
            _decay_and_centralize(leaf, weight if decays else None, weight_decay, fan_in)
            for (_, leaf, fan_in), weight, decays in zip(planned, weights, is_decayed, strict=True)
        ]
        return jax.tree.unflatten(structure, results), state

    return optax.GradientTransformation(init_fn, update_fn)


def _decayed_leaves(mask: Any, params: optax.Params, structure: Any) -> list[Any]:
    """Return for each leaf whether it has decay."""
    if mask is None:
        return [True] * structure.num_leaves
    mask = mask(params) if callable(mask) else mask
    return structure.flatten_up_to(jax.tree.broadcast(mask, params))


def _decay_and_centralize(gradient: Any, weight: Any, decay: ArrayLike, fan_in: FanIn) -> Any:
    if gradient is None or isinstance(gradient, optax.MaskedNode):
        return gradient
    decayed = gradient if weight is None else gradient + decay * weight
    if not fan_in.axes or is_own_mean(gradient, fan_in):
        return decayed
    centralized = subtract_mean(jnp.asarray(gradient), fan_in)
    if weight is not None:
        centralized += decay * subtract_mean(jnp.asarray(weight), fan_in)
    return centralized.astype(decayed.dtype)
