"""From a config to an optax chain: the one place that says where GC stands in it."""

from collections import Counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

import optax_gc
from optax_gc import diagnostics
from train import models
from train.engine.plan import Plan
from train.errors import UserError

_DECOUPLED = ("sgdw", "adamw", "radam", "ranger")
"""Optimizers whose weight decay is not part of the gradient."""
_MAX_DROPS = 1000  # each is compiled in, and float32 has none so small that it matters


def build(
    config: ConfigDict, learning_rate: optax.Schedule, axes: Any
) -> optax.GradientTransformation:
    """The chain that `config.optimizer` and `config.gc` describe.

    With `gc.location` "gradient" the gradient is centralized after L2 decay has been added and
    before it is preconditioned; with "update", the preconditioned update is, before the rate.
    Decay that is decoupled is added to the preconditioned update. Ranger is RAdam in Lookahead.

    `optimizer.body_lr_scale` multiplies the update of all but the last layer, decoupled decay included;
    a body with rate 0 has neither decay nor momentum. `optimizer.eps` stands where optax has it:
    inside the root for adagrad and rmsprop, outside for the others.

    Args:
      config: a validated config.
      learning_rate: step to rate.
      axes: a pytree of `optax_gc.FanIn` shaped like the parameters.

    Returns:
      The transformation; `removed_fraction(its state)` is the share that GC removed.
    """
    settings = config.optimizer
    name = settings.lookahead.inner if settings.name == "lookahead" else settings.name
    decoupled = name in _DECOUPLED
    decay = optax.add_decayed_weights(settings.weight_decay)
    centralize = _centralize(config, axes)
    at_update = config.gc.location == "update"
    chain = optax.chain(
        optax.identity() if decoupled else decay,
        optax.identity() if at_update else centralize,
        _precondition(name, settings),
        decay if decoupled else optax.identity(),
        centralize if at_update else optax.identity(),
        optax.scale_by_learning_rate(learning_rate),
    )
    chain = _scale_body_updates(chain, settings.body_lr_scale)
    if settings.name in ("lookahead", "ranger"):
        return _lookahead(chain, settings.lookahead)
    return chain


def learning_rate(
    config: ConfigDict, plan: Plan, peak: jax.typing.ArrayLike | None = None
) -> optax.Schedule:
    """The rate of each step, as `config.schedule` describes it.

    Args:
      config: a validated config.
      plan: of the run.
      peak: the highest rate, a scalar that may be traced; `config.optimizer.learning_rate` if None.

    Raises:
      UserError: it would be lowered too often.
    """
    schedule = config.schedule
    peak = config.optimizer.learning_rate if peak is None else peak
    warmup = int(schedule.warmup * plan.total_steps)
    match schedule.name:
        case "constant":
            after = optax.constant_schedule(peak)
        case "step":
            drops = _drops(schedule, plan)
            times = Counter(step - warmup for step in drops)  # more than once, in epochs of a step
            factors = {step: schedule.step_factor**count for step, count in times.items()}
            after = optax.piecewise_constant_schedule(peak, factors)
        case "cosine":
            after = optax.cosine_decay_schedule(peak, plan.total_steps - warmup)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def _drops(schedule: ConfigDict, plan: Plan) -> list[int]:
    """The steps after which the rate is lowered."""
    if schedule.step_at:
        steps = [round(epoch * plan.steps_per_epoch) for epoch in schedule.step_at]
        return [step for step in steps if step <= plan.total_steps]
    every = schedule.step_epochs * plan.steps_per_epoch
    if plan.total_steps > _MAX_DROPS * every:
        raise UserError(
            f"config.schedule.step_epochs={schedule.step_epochs} changes the rate more than "
            f"{_MAX_DROPS} times in {plan.epoch(plan.total_steps):g} epochs; make it longer"
        )
    return [round(every * drop) for drop in range(1, int(plan.total_steps / every) + 1)]


def removed_fraction(opt_state: optax.OptState) -> jax.Array:
    """The share of the squared norm that GC removed when it was last measured; 0 without GC."""
    return optax.tree.get(opt_state, "removed_fraction", jnp.zeros(()))


def _scale_body_updates(
    chain: optax.GradientTransformation, rate: float
) -> optax.GradientTransformation:
    if rate == 1:
        return chain
    if rate == 0:
        return optax.partition({"head": chain, "body": optax.set_to_zero()}, _parts)
    slowed = optax.partition({"head": optax.identity(), "body": optax.scale(rate)}, _parts)
    return optax.chain(chain, slowed)


def _parts(params: Any) -> Any:
    """A label for each top-level entry of the parameters."""
    return {name: "head" if name == models.HEAD else "body" for name in params}


def eval_params(opt_state: optax.OptState, params: Any) -> Any:
    """The weights to test: Lookahead's slow ones, and with any other optimizer those of training.

    Args:
      opt_state: the state of what `build` returns.
      params: the weights that gradients are taken at.
    """
    return optax.tree.get(opt_state, "slow_params", params)


def _precondition(name: str, settings: ConfigDict) -> optax.GradientTransformation:
    match name:
        case "sgd":
            return optax.identity()
        case "momentum" | "sgdw":
            return optax.trace(settings.momentum, settings.nesterov)
        case "adagrad":
            return optax.scale_by_rss(initial_accumulator_value=0.0, eps=settings.eps)
        case "rmsprop":
            return optax.scale_by_rms(settings.b2, settings.eps)
        case "adam" | "adamw":
            return optax.scale_by_adam(settings.b1, settings.b2, settings.eps)
        case "radam" | "ranger":
            return optax.scale_by_radam(settings.b1, settings.b2, settings.eps)
    raise UserError(f"config.optimizer.name={name!r} is not an optimizer")


class _Lookahead(NamedTuple):
    inner: optax.LookaheadState
    slow_params: Any


def _lookahead(
    fast: optax.GradientTransformation, settings: ConfigDict
) -> optax.GradientTransformation:
    """`optax.lookahead`, whose slow weights are a part of its state.

    Optax has the caller hold pairs of fast and slow weights. The parameters of a run are those of
    its network, and everything that reads them goes on with the fast ones.
    """
    inner = optax.lookahead(fast, settings.period, settings.step_size)

    def init_fn(params):
        return _Lookahead(inner.init(optax.LookaheadParams.init_synced(params)), params)

    def update_fn(updates, state, params):
        both = optax.LookaheadParams(fast=params, slow=state.slow_params)
        updates, inner_state = inner.update(updates, state.inner, both)
        slow_params = optax.apply_updates(state.slow_params, updates.slow)
        return updates.fast, _Lookahead(inner_state, slow_params)

    return optax.GradientTransformation(init_fn, update_fn)


class _Measured(NamedTuple):
    step: jax.Array
    removed_fraction: jax.Array


def _centralize(config: ConfigDict, axes: Any) -> optax.GradientTransformation:
    """GC, which keeps how much it removed in the first step of each log line."""
    if config.gc.mode == "none":
        return optax.identity()
    conv_only = config.gc.mode == "conv"
    inner = optax_gc.centralize(axes, conv_only=conv_only)

    def init_fn(params):
        inner.init(params)
        return _Measured(jnp.zeros((), jnp.int32), jnp.zeros(()))

    def update_fn(updates, state, params=None):
        # In every step, because the pass over the updates that yields their means yields this too;
        # a branch that is taken now and then would have them written to memory first.
        now = diagnostics.removed_fraction(updates, axes, conv_only=conv_only).total
        due = state.step % config.log_every_steps == 0
        removed = jnp.where(due, now, state.removed_fraction)
        centred, _ = inner.update(updates, inner.init(updates), params)
        return centred, _Measured(state.step + 1, removed)

    return optax.GradientTransformation(init_fn, update_fn)
