"""The optimizer of a config: the one place that decides where GC stands in its chain."""

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


class Measures(NamedTuple):
    """What is logged of one update; each float32, ().

    Attributes:
      grad_norm: The norm of the gradient, before weight decay and GC.
      update_norm: The norm of the update, learning rate included.
      param_norm: The norm of the weights after the update.
      gc_removed_fraction: The share of the squared norm that GC removed; 0 without GC.
    """

    grad_norm: jax.Array
    update_norm: jax.Array
    param_norm: jax.Array
    gc_removed_fraction: jax.Array


class Optimizer(NamedTuple):
    """A gradient transformation, and the measures of its updates.

    Attributes:
      init: As of `optax.GradientTransformation`.
      update: As of `optax.GradientTransformation`.
      measure: Makes an update again, from the gradient and the state and weights before it, and
        returns the update and its `Measures`. So an update that is not logged computes no measures.
      schedule: Maps a step to a learning rate.
      axes: A pytree of `optax_gc.FanIn` with the structure of the parameters.
    """

    init: optax.TransformInitFn
    update: optax.TransformUpdateFn
    measure: Callable[[Any, optax.OptState, Any], tuple[Any, Measures]]
    schedule: optax.Schedule
    axes: Any


def build(
    config: ConfigDict, schedule: optax.Schedule, axes: Any, last_layer: Callable[[], Layers]
) -> Optimizer:
    """Return the optimizer that `config.optimizer` and `config.gc` describe.

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
    """
    make = functools.partial(_build_chain, config, schedule, axes, last_layer)
    chain, measuring_chain = make(optax_gc.decay_and_centralize), make(_centralize_and_measure)

    def measure(grads: Any, opt_state: optax.OptState, params: Any) -> tuple[Any, Measures]:
        updates, opt_state = measuring_chain.update(grads, opt_state, params)
        return updates, Measures(
            grad_norm=optax.tree.norm(grads),
            update_norm=optax.tree.norm(updates),
            param_norm=optax.tree.norm(optax.apply_updates(params, updates)),
            gc_removed_fraction=optax.tree.get(opt_state, "removed_fraction", jnp.zeros(())),
        )

    return Optimizer(chain.init, chain.update, measure, schedule, axes)


def _build_chain(
    config: ConfigDict,
    schedule: optax.Schedule,
    axes: Any,
    last_layer: Callable[[], Layers],
    make_centralize: Callable[..., optax.GradientTransformation],
) -> optax.GradientTransformation:
    settings, gc = config.optimizer, config.gc
    name = settings.lookahead.inner if settings.name == "lookahead" else settings.name
    is_decoupled = name in _DECOUPLED_DECAY
    l2_decay = 0.0 if is_decoupled else settings.weight_decay
    decoupled_decay = settings.weight_decay if is_decoupled else 0.0
    centralize = functools.partial(
        make_centralize, axes=_OTHER_AXES.get(gc.mode, axes), conv_only=gc.mode == "conv"
    )
    location = None if gc.mode == "none" else gc.location
    chain = optax.chain(
        centralize(l2_decay) if location == "gradient" else optax.add_decayed_weights(l2_decay),
        _precondition(name, settings),
        optax.add_decayed_weights(decoupled_decay),
        centralize(0.0) if location == "update" else optax.identity(),
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
    removed_fraction: jax.Array


def _centralize_and_measure(
    weight_decay: float, axes: Any, conv_only: bool
) -> optax.GradientTransformation:
    """Return `decay_and_centralize`, whose state after an update is the share that GC removed."""
    decay = optax.add_decayed_weights(weight_decay)
    tx = optax_gc.decay_and_centralize(weight_decay, axes, conv_only=conv_only)

    def update_fn(updates, state, params=None):
        decayed, _ = decay.update(updates, decay.init(params), params)
        share = diagnostics.removed_fraction(decayed, axes, conv_only=conv_only).total
        return tx.update(updates, state, params)[0], _MeasuredState(share)

    return optax.GradientTransformation(tx.init, update_fn)
