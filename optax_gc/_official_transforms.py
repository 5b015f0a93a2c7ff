"""The transformations and argument checks that `optax_gc.official` is built from."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

Location = Literal["gradient", "update"]


def check_not_negative(**arguments: Any) -> None:
    """Raise a ValueError if a number is negative. Arrays and schedules are not checked."""
    for name, value in arguments.items():
        if isinstance(value, int | float) and value < 0:
            raise ValueError(f"{name} must not be negative, got {value}")


def add_weight_decay(weight_decay: ArrayLike) -> optax.GradientTransformation:
    """Return the transformation that adds `weight_decay` times the parameters."""
    check_not_negative(weight_decay=weight_decay)
    return optax.identity() if _is_zero(weight_decay) else optax.add_decayed_weights(weight_decay)


def add_momentum(
    momentum: ArrayLike, dampening: ArrayLike, nesterov: bool
) -> optax.GradientTransformation:
    """Return momentum as in PyTorch: the first gradient is not dampened."""
    check_not_negative(momentum=momentum)
    is_dampened = isinstance(dampening, int | float) and dampening != 0
    if nesterov and (_is_zero(momentum) or is_dampened):
        raise ValueError(
            "nesterov needs a momentum above zero and no dampening, got "
            f"momentum={momentum} and dampening={dampening}"
        )
    if _is_zero(momentum):
        return optax.identity()
    if _is_zero(dampening):
        return optax.trace(momentum, nesterov)
    dampen = optax.scale_by_schedule(lambda count: jnp.where(count == 0, 1, 1 - dampening))
    return optax.chain(dampen, optax.trace(momentum, nesterov))


def place_centralize(
    location: Location,
    centralize: optax.GradientTransformation,
    steps: list[optax.GradientTransformation],
) -> list[optax.GradientTransformation]:
    """Return `steps` with `centralize` before them (gradient) or after them (update)."""
    if location not in ("gradient", "update"):
        raise ValueError(f'location must be "gradient" or "update", got {location!r}')
    return [centralize, *steps] if location == "gradient" else [*steps, centralize]


def scale_by_uncorrected_adam(
    b1: ArrayLike, b2: ArrayLike, eps: ArrayLike, *, amsgrad: bool, scale_eps: bool
) -> optax.GradientTransformation:
    """Return Adam's fraction m / (sqrt(v) + eps) without bias correction.

    With `scale_eps`, eps is multiplied by sqrt(1 - b2^t). Then `correct_bias` after it gives the
    result of `optax.adam`, where eps is added after the bias correction.
    """

    def init_fn(params):
        mu, nu, nu_max = (optax.tree.zeros_like(params) for _ in range(3))
        count = jnp.zeros([], jnp.int32)
        return optax.ScaleByAmsgradState(count, mu, nu, nu_max if amsgrad else None)

    def update_fn(updates, state, params=None):
        del params
        count = optax.safe_increment(state.count)
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, b2, 2)
        nu_max = jax.tree.map(jnp.maximum, state.nu_max, nu) if amsgrad else None
        scaled_eps = eps * jnp.sqrt(1 - b2**count) if scale_eps else eps
        updates = jax.tree.map(
            lambda m, v: m / (jnp.sqrt(v) + jnp.asarray(scaled_eps, v.dtype)),
            mu,
            nu_max if amsgrad else nu,
        )
        return updates, optax.ScaleByAmsgradState(count, mu, nu, nu_max)

    return optax.GradientTransformation(init_fn, update_fn)


def correct_bias(b1: ArrayLike, b2: ArrayLike) -> optax.GradientTransformation:
    """Return the transformation that corrects the bias of both of Adam's moments."""
    return optax.scale_by_schedule(
        lambda count: jnp.sqrt(1 - b2 ** (count + 1)) / (1 - b1 ** (count + 1))
    )


def scale_by_adagrad(eps: ArrayLike) -> optax.GradientTransformation:
    """Return `optax.scale_by_rss` that starts from 0 and adds eps outside the square root."""

    def init_fn(params):
        return optax.ScaleByRssState(optax.tree.zeros_like(params))

    def update_fn(updates, state, params=None):
        del params
        total = jax.tree.map(lambda s, g: s + (g.conj() * g).real, state.sum_of_squares, updates)
        updates = jax.tree.map(
            lambda g, s: g / (jnp.sqrt(s) + jnp.asarray(eps, s.dtype)), updates, total
        )
        return updates, optax.ScaleByRssState(total)

    return optax.GradientTransformation(init_fn, update_fn)


def decayed_learning_rate(
    learning_rate: optax.ScalarOrSchedule, lr_decay: ArrayLike
) -> optax.ScalarOrSchedule:
    """Return the learning rate divided by `1 + lr_decay * count`."""

    def schedule(count):
        rate = learning_rate(count) if callable(learning_rate) else learning_rate
        return rate / (1 + count * lr_decay)

    return learning_rate if _is_zero(lr_decay) else schedule


def _is_zero(value: Any) -> bool:
    # Only a Python number. optax.inject_hyperparams passes arrays, which may change later.
    return isinstance(value, int | float) and value == 0
