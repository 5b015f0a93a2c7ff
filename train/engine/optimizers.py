"""The optimizer chain of a config: the one place that decides where GC stands in it."""

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

import optax_gc
from optax_gc import diagnostics
from train.engine.plan import Plan
from train.errors import UserError
from train.models.last_layer import Layers, label_parts

_DECOUPLED_DECAY = ("sgdw", "adamw", "radam", "ranger")
_OTHER_AXES = {
    "whole_tensor": optax_gc.whole_tensor,
    "first_axis_out": optax_gc.first_axis_out,
}
_MAX_DROPS = 1000  # each drop is compiled in, and after so many a float32 rate is 0


def build(
    config: ConfigDict, schedule: optax.Schedule, axes: Any, last_layer: Callable[[], Layers]
) -> optax.GradientTransformation:
    """Return the chain that `config.optimizer` and `config.gc` describe.

    With `gc.location` "gradient", GC is applied after L2 decay is added and before the gradient is
    preconditioned. With "update", it is applied to the preconditioned update, before the learning
    rate. Decoupled decay is added to the preconditioned update. Ranger is RAdam in Lookahead.

    `optimizer.body_lr_scale` multiplies the update of all layers but the last, decoupled decay
    included; with 0 these layers have no decay and no momentum. `optimizer.eps` has the position
    that optax gives it: inside the root for adagrad and rmsprop, outside for the others.

    Args:
      config: A validated config.
      schedule: Maps a step to a learning rate.
      axes: A pytree of `optax_gc.FanIn` with the structure of the parameters.
      last_layer: Returns the paths of the last layers; called if they differ from the others.

    Returns:
      The transformation. `removed_fraction(opt_state)` reads the share that GC removed.
    """
    settings = config.optimizer
    name = settings.lookahead.inner if settings.name == "lookahead" else settings.name
    decoupled = name in _DECOUPLED_DECAY
    decay = optax.add_decayed_weights(settings.weight_decay)
    centralize = _measured_centralize(config, axes)
    at_update = config.gc.location == "update"
    chain = optax.chain(
        optax.identity() if decoupled else decay,
        optax.identity() if at_update else centralize,
        _precondition(name, settings),
        decay if decoupled else optax.identity(),
        centralize if at_update else optax.identity(),
        optax.scale_by_learning_rate(schedule),
    )
    if settings.body_lr_scale != 1:
        chain = _scale_body_updates(chain, settings.body_lr_scale, last_layer())
    if settings.name in ("lookahead", "ranger"):
        return _lookahead(chain, settings.lookahead)
    return chain


def make_schedule(
    config: ConfigDict, plan: Plan, peak: jax.typing.ArrayLike | None = None
) -> optax.Schedule:
    """Return the learning rate of each step of a plan.

    Args:
      config: Its `schedule` describes the shape.
      plan: The plan of the run.
      peak: The rate after warm-up; may be traced. `config.optimizer.learning_rate` if None.

    Raises:
      UserError: If the schedule has more drops than can be compiled in.
    """
    settings = config.schedule
    peak = config.optimizer.learning_rate if peak is None else peak
    warmup_steps = int(settings.warmup * plan.total_steps)
    match settings.name:
        case "constant":
            schedule = optax.constant_schedule(peak)
        case "step":
            # With epochs shorter than a step, one step can have several drops.
            counts = Counter(step - warmup_steps for step in _drop_steps(settings, plan))
            factors = {step: settings.step_factor**count for step, count in counts.items()}
            schedule = optax.piecewise_constant_schedule(peak, factors)
        case "cosine":
            schedule = optax.cosine_decay_schedule(peak, plan.total_steps - warmup_steps)
    if not warmup_steps:
        return schedule
    warmup = optax.linear_schedule(0.0, peak, warmup_steps)
    return optax.join_schedules([warmup, schedule], [warmup_steps])


def removed_fraction(opt_state: optax.OptState) -> jax.Array:
    """Return the last measured share of the squared norm that GC removed; 0 without GC."""
    return optax.tree.get(opt_state, "removed_fraction", jnp.zeros(()))


def eval_params(opt_state: optax.OptState, params: Any) -> Any:
    """Return the weights to evaluate: Lookahead's slow weights, otherwise `params`.

    Args:
      opt_state: The state of the chain that `build` returns.
      params: The weights at which gradients are computed.
    """
    return optax.tree.get(opt_state, "slow_params", params)


def _drop_steps(settings: ConfigDict, plan: Plan) -> list[int]:
    """Return the steps after which the rate is lowered."""
    if settings.step_at:
        steps = [round(epoch * plan.steps_per_epoch) for epoch in settings.step_at]
        return [step for step in steps if step <= plan.total_steps]
    period = settings.step_epochs * plan.steps_per_epoch
    if plan.total_steps > _MAX_DROPS * period:
        raise UserError(
            f"config.schedule.step_epochs={settings.step_epochs} changes the rate more than "
            f"{_MAX_DROPS} times in {plan.epoch(plan.total_steps):g} epochs; use a larger value"
        )
    return [round(period * drop) for drop in range(1, int(plan.total_steps / period) + 1)]


def _scale_body_updates(
    chain: optax.GradientTransformation, scale: float, last_layer: Layers
) -> optax.GradientTransformation:
    label = functools.partial(label_parts, last_layer=last_layer)
    if scale == 0:
        return optax.partition({"head": chain, "body": optax.set_to_zero()}, label)
    scaled = optax.partition({"head": optax.identity(), "body": optax.scale(scale)}, label)
    return optax.chain(chain, scaled)


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


class _LookaheadState(NamedTuple):
    inner: optax.LookaheadState
    slow_params: Any


def _lookahead(
    fast: optax.GradientTransformation, settings: ConfigDict
) -> optax.GradientTransformation:
    """Return `optax.lookahead` with the slow weights in its state.

    Optax expects pairs of fast and slow weights as parameters. The parameters of a run are those
    of its network, which are the fast weights.
    """
    inner = optax.lookahead(fast, settings.period, settings.step_size)

    def init_fn(params):
        return _LookaheadState(inner.init(optax.LookaheadParams.init_synced(params)), params)

    def update_fn(updates, state, params):
        both = optax.LookaheadParams(fast=params, slow=state.slow_params)
        updates, inner_state = inner.update(updates, state.inner, both)
        slow_params = optax.apply_updates(state.slow_params, updates.slow)
        return updates.fast, _LookaheadState(inner_state, slow_params)

    return optax.GradientTransformation(init_fn, update_fn)


class _MeasuredState(NamedTuple):
    step: jax.Array
    removed_fraction: jax.Array


def _measured_centralize(config: ConfigDict, axes: Any) -> optax.GradientTransformation:
    """Return GC that stores the share it removed in the first step of each log line."""
    if config.gc.mode == "none":
        return optax.identity()
    conv_only = config.gc.mode == "conv"
    axes = _OTHER_AXES.get(config.gc.mode, axes)
    centralize = optax_gc.centralize(axes, conv_only=conv_only)

    def init_fn(params):
        centralize.init(params)
        return _MeasuredState(jnp.zeros((), jnp.int32), jnp.zeros(()))

    def update_fn(updates, state, params=None):
        # Measured in every step: the pass over the updates that computes their means also yields
        # this share, whereas a conditional would write the updates to memory first.
        share = diagnostics.removed_fraction(updates, axes, conv_only=conv_only).total
        is_first = state.step % config.log_every_steps == 0
        removed = jnp.where(is_first, share, state.removed_fraction)
        updates, _ = centralize.update(updates, centralize.init(updates), params)
        return updates, _MeasuredState(state.step + 1, removed)

    return optax.GradientTransformation(init_fn, update_fn)
