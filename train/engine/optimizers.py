"""The optimizer of a config: the one place that decides where GC stands in its chain."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

import optax_gc
from optax_gc import diagnostics
from train.config import entry_point
from train.engine import averaging
from train.errors import UserError, describe_error, short_repr
from train.models.last_layer import Layers, label_frozen, label_parts

_DECOUPLED_DECAY = (
    *("sgdw", "adamw", "radam", "ranger", "lion", "lamb", "adan", "muon"),
    "schedule_free_adamw",
)
_MUON_RMS = 0.2  # of an element of Muon's update, as of Adam's; Liu et al. 2025, arXiv 2502.16982
_OTHER_AXES = {
    "whole_tensor": optax_gc.whole_tensor,
    "first_axis_out": optax_gc.first_axis_out,
}


class Measures(NamedTuple):
    """What is logged of one update; each float32, ().

    Attributes:
      grad_norm: The norm of the gradient, before weight decay and GC.
      update_norm: The norm of the update, learning rate included.
      param_norm: The norm of the weights after the update.
      gc_removed_fraction: The share of the squared norm that GC removed; 0 without GC.
      per_layer: The same four by path of the weight and name, such as `conv1/kernel/grad_norm`;
        empty unless `config.report.per_layer` is set.
    """

    grad_norm: jax.Array
    update_norm: jax.Array
    param_norm: jax.Array
    gc_removed_fraction: jax.Array
    per_layer: dict[str, jax.Array]

    def by_name(self) -> dict[str, Any]:
        """Return all measures in one dict."""
        values = self._asdict()
        return values | values.pop("per_layer")


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

    `optimizer.clip_norm` limits the global norm of the gradient: with `clip_location` "gradient"
    before decay and GC, so that the limit is that of the raw gradient; with "centralized" after
    them, so that it is that of what the optimizer gets. GC never increases the norm.

    Weights under `optimizer.freeze` do not change, and are not part of the norm.

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
        new_params = optax.apply_updates(params, updates)
        removed = optax.tree.get(opt_state, "removed_fraction")
        per_layer: dict[str, jax.Array] = {}
        if config.report.per_layer:
            norms = {"grad_norm": grads, "update_norm": updates, "param_norm": new_params}
            for name, tree in norms.items():
                per_layer |= _by_path(name, jax.tree.map(optax.tree.norm, tree))
            if removed:
                per_layer |= _by_path("gc_removed_fraction", removed.per_leaf)
        return updates, Measures(
            grad_norm=optax.tree.norm(grads),
            update_norm=optax.tree.norm(updates),
            param_norm=optax.tree.norm(new_params),
            gc_removed_fraction=removed.total if removed else jnp.zeros(()),
            per_layer=per_layer,
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
    decay = optax.add_decayed_weights(decoupled_decay)
    # Checkpoints name a state by its place in the chain, so parts that are off have no place.
    chain = optax.chain(
        _clip(
            settings,
            centralize(l2_decay) if location == "gradient" else optax.add_decayed_weights(l2_decay),
        ),
        _precondition(name, settings, axes),
        optax.chain(decay, optax.scale_by_trust_ratio()) if name == "lamb" else decay,
        centralize(0.0) if location == "update" else optax.identity(),
        optax.scale_by_learning_rate(schedule),
    )
    if settings.body_lr_scale != 1:
        chain = _scale_body_updates(chain, settings.body_lr_scale, last_layer())
    chain = _freeze(chain, settings.freeze)
    if settings.name in ("lookahead", "ranger"):
        chain = averaging.lookahead(chain, settings.lookahead)
    if settings.name.startswith("schedule_free"):
        chain = averaging.schedule_free(chain, schedule, settings.b1, settings.freeze)
    return averaging.ema(chain, settings.ema) if settings.ema else chain


def _freeze(
    chain: optax.GradientTransformation, prefixes: Sequence[str]
) -> optax.GradientTransformation:
    """Return a chain that leaves the weights under some prefixes as they are."""
    if not prefixes:
        return chain
    label = functools.partial(label_frozen, prefixes=prefixes)
    return optax.partition({"trained": chain, "frozen": optax.set_to_zero()}, label)


def _clip(settings: ConfigDict, tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return `tx`, which decays and centralizes, with the clipping before or after it."""
    if not settings.clip_norm:
        return tx
    clip = optax.clip_by_global_norm(settings.clip_norm)
    return optax.chain(clip, tx) if settings.clip_location == "gradient" else optax.chain(tx, clip)


def _scale_body_updates(
    chain: optax.GradientTransformation, scale: float, last_layer: Layers
) -> optax.GradientTransformation:
    label = functools.partial(label_parts, last_layer=last_layer)
    if scale == 0:
        return optax.partition({"head": chain, "body": optax.set_to_zero()}, label)
    scaled = optax.partition({"head": optax.identity(), "body": optax.scale(scale)}, label)
    return optax.chain(chain, scaled)


def _precondition(name: str, settings: ConfigDict, axes: Any) -> optax.GradientTransformation:
    b1, b2, eps = settings.b1, settings.b2, settings.eps
    match name:
        case "sgd" | "schedule_free_sgd":
            return optax.identity()
        case "momentum" | "sgdw":
            return optax.trace(settings.momentum, settings.nesterov)
        case "adagrad":
            return optax.scale_by_rss(initial_accumulator_value=0.0, eps=eps)
        case "rmsprop":
            return optax.scale_by_rms(b2, eps)
        case "adam" | "adamw" | "lamb":  # LAMB rescales after the decay
            return optax.scale_by_adam(b1, b2, eps)
        case "radam" | "ranger":
            return optax.scale_by_radam(b1, b2, eps)
        case "lion":
            return optax.scale_by_lion(b1, b2)
        case "adan":
            return optax.scale_by_adan(b1, b2, settings.b3, eps)
        case "schedule_free_adamw":
            return optax.scale_by_adam(0.0, b2, eps)
        case "muon":
            return _muon(settings, axes)
    return _own(name, settings)


def _own(name: str, settings: ConfigDict) -> optax.GradientTransformation:
    """Return what the function of an entry point returns for `config.optimizer`.

    Raises:
      UserError: If it fails, or does not return a gradient transformation.
    """
    make = entry_point.load("config.optimizer.name", name)
    try:
        tx = make(settings)
    except Exception as error:  # own code can raise anything
        raise UserError(
            f"config.optimizer.name={short_repr(name)}: calling it with config.optimizer raises "
            f"{describe_error(error)}; fix it"
        ) from error
    if not isinstance(tx, optax.GradientTransformation):
        raise UserError(
            f"config.optimizer.name={short_repr(name)} returns a {type(tx).__name__} and not an "
            "optax.GradientTransformation; return one that is not scaled by the learning rate, "
            "such as optax.scale_by_adam()"
        )
    return tx


def _muon(settings: ConfigDict, axes: Any) -> optax.GradientTransformation:
    """Return Muon for the weights with input axes, and Adam for the others, without decay.

    The updates of both have the scale of Adam's, so one learning rate fits both.
    """
    muon = optax.contrib.muon(
        1.0,
        beta=settings.momentum,
        eps=settings.eps,
        adam_b1=settings.b1,
        adam_b2=settings.b2,
        muon_weight_dimension_numbers=optax_gc.muon_dimension_numbers(axes),
        consistent_rms=_MUON_RMS,
    )
    return optax.chain(muon, optax.scale(-1.0))  # the learning rate comes later in the chain


def _by_path(name: str, tree: Any) -> dict[str, jax.Array]:
    return {
        f"{jax.tree_util.keystr(path, simple=True, separator='/')}/{name}": leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


class _MeasuredState(NamedTuple):
    removed_fraction: diagnostics.RemovedFraction


def _centralize_and_measure(
    weight_decay: float, axes: Any, conv_only: bool
) -> optax.GradientTransformation:
    """Return `decay_and_centralize`, whose state after an update is the share that GC removed."""
    decay = optax.add_decayed_weights(weight_decay)
    tx = optax_gc.decay_and_centralize(weight_decay, axes, conv_only=conv_only)

    def update_fn(updates, state, params=None):
        decayed, _ = decay.update(updates, decay.init(params), params)
        share = diagnostics.removed_fraction(decayed, axes, conv_only=conv_only)
        return tx.update(updates, state, params)[0], _MeasuredState(share)

    return optax.GradientTransformation(tx.init, update_fn)
