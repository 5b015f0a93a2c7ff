"""Optimizers that evaluate other weights than those at which they compute gradients.

Each keeps the evaluated weights in its state as `eval_params`, so that evaluation, checkpoints and
other commands find them without knowing which optimizer it is.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from train.models.last_layer import label_frozen


def eval_params(opt_state: optax.OptState, params: Any) -> Any:
    """Return the weights to evaluate.

    Args:
      opt_state: The state of the chain of `train.engine.optimizers.build`.
      params: The weights at which gradients are computed.
    """
    return optax.tree.get(opt_state, "eval_params", params)


class _State(NamedTuple):
    """The state of the optimizer inside, and the weights to evaluate."""

    inner: Any
    eval_params: Any


def lookahead(
    fast: optax.GradientTransformation, settings: ConfigDict
) -> optax.GradientTransformation:
    """Return `optax.lookahead`, whose slow weights are evaluated.

    Optax expects pairs of fast and slow weights as parameters. The parameters of a run are those
    of its network, which are the fast weights.
    """
    inner = optax.lookahead(fast, settings.period, settings.step_size)

    def init_fn(params):
        return _State(inner.init(optax.LookaheadParams.init_synced(params)), params)

    def update_fn(updates, state, params):
        both = optax.LookaheadParams(fast=params, slow=state.eval_params)
        updates, inner_state = inner.update(updates, state.inner, both)
        slow_params = optax.apply_updates(state.eval_params, updates.slow)
        return updates.fast, _State(inner_state, slow_params)

    return optax.GradientTransformation(init_fn, update_fn)


def schedule_free(
    base: optax.GradientTransformation,
    schedule: optax.Schedule,
    interpolation: float,
    freeze: Sequence[str] = (),
) -> optax.GradientTransformation:
    """Return `optax.contrib.schedule_free`, whose average of the weights is evaluated.

    Args:
      base: The optimizer without momentum, learning rate included.
      schedule: The learning rate, whose square weighs the average.
      interpolation: The share of the average in the weights at which gradients are computed.
      freeze: The layers that `base` does not change; the interpolation would round them.
    """
    inner = optax.contrib.schedule_free(base, schedule, b1=interpolation)

    def update_fn(updates, state, params):
        updates, inner_state = inner.update(updates, state.inner, params)
        # z is the sequence of the base optimizer: params = b1 * average + (1 - b1) * z.
        average = optax.contrib.schedule_free_eval_params(
            inner_state, optax.apply_updates(params, updates)
        )
        labels, zeros = label_frozen(params, freeze), optax.tree.zeros_like(updates)
        return (
            _unless_frozen(labels, updates, zeros),
            _State(inner_state, _unless_frozen(labels, average, params)),
        )

    def init_fn(params):
        return _State(inner.init(params), params)

    return optax.GradientTransformation(init_fn, update_fn)


def _unless_frozen(labels: Any, trained: Any, frozen: Any) -> Any:
    """Return the leaves of one of two trees by their labels."""
    return jax.tree.map(
        lambda label, new, old: old if label == "frozen" else new, labels, trained, frozen
    )


class _EmaState(NamedTuple):
    inner: Any
    eval_params: Any
    updates: jax.Array


def ema(tx: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """Return an optimizer whose exponential moving average of the weights is evaluated.

    The decay of update t is min(decay, (1 + t) / (10 + t)), so that the first weights, which are
    random, are soon forgotten.
    """

    def init_fn(params):
        return _EmaState(tx.init(params), params, jnp.zeros((), jnp.int32))

    def update_fn(updates, state, params):
        updates, inner = tx.update(updates, state.inner, params)
        new_share = 1 - jnp.minimum(decay, (1 + state.updates) / (10 + state.updates))
        new_params = optax.apply_updates(params, updates)
        average = optax.incremental_update(new_params, state.eval_params, new_share)
        return updates, _EmaState(inner, average, state.updates + 1)

    return optax.GradientTransformation(init_fn, update_fn)
