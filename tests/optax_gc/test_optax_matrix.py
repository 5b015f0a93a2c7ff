"""Every gradient transformation of optax and `optax.contrib`, chained after `centralize()`.

The tables below are what docs/library/optimizers.md shows; regenerate it after a change with

    python tests/optax_gc/test_optax_matrix.py > docs/library/optimizers.md
"""

import functools
import inspect
import pathlib
import types

import jax
import jax.numpy as jnp
import optax
import optax.contrib
import pytest

import optax_gc

# What is built for each name; `lr` is a learning rate.
_OPTIMIZERS = {
    "adabelief": "optax.adabelief(lr)",
    "adadelta": "optax.adadelta(100 * lr)",
    "adafactor": "optax.adafactor(lr, min_dim_size_to_factor=2)",
    "adagrad": "optax.adagrad(lr)",
    "adam": "optax.adam(lr)",
    "adamax": "optax.adamax(lr)",
    "adamaxw": "optax.adamaxw(lr)",
    "adamw": "optax.adamw(lr)",
    "adan": "optax.adan(lr)",
    "amsgrad": "optax.amsgrad(lr)",
    "fromage": "optax.fromage(lr)",
    "lamb": "optax.lamb(lr)",
    "lars": "optax.lars(100 * lr)",
    "lbfgs": "optax.lbfgs(lr, linesearch=None)",
    "lion": "optax.lion(lr)",
    "nadam": "optax.nadam(lr)",
    "nadamw": "optax.nadamw(lr)",
    "noisy_sgd": "optax.noisy_sgd(lr, eta=1e-4, key=0)",
    "novograd": "optax.novograd(lr)",
    "optimistic_adam_v2": "optax.optimistic_adam_v2(lr)",
    "optimistic_gradient_descent": "optax.optimistic_gradient_descent(lr)",
    "polyak_sgd": "optax.polyak_sgd(lr)",
    "radam": "optax.radam(lr)",
    "rmsprop": "optax.rmsprop(lr, momentum=0.5)",
    "rprop": "optax.rprop(lr)",
    "sgd": "optax.sgd(lr, momentum=0.9)",
    "sign_sgd": "optax.sign_sgd(lr)",
    "signum": "optax.signum(lr)",
    "sm3": "optax.sm3(lr)",
    "yogi": "optax.yogi(lr)",
    "acprop": "contrib.acprop(lr)",
    "ademamix": "contrib.ademamix(lr)",
    "adopt": "contrib.adopt(lr)",
    "cocob": "contrib.cocob()",
    "dadapt_adamw": "contrib.dadapt_adamw(50 * lr)",
    "dog": "contrib.dog(50 * lr)",
    "dowg": "contrib.dowg(50 * lr)",
    "galore": "contrib.galore(lr, rank=2)",
    "madgrad": "contrib.madgrad(lr)",
    "momo": "contrib.momo(lr)",
    "momo_adam": "contrib.momo_adam(lr)",
    "muon": "contrib.muon(lr)",
    "prodigy": "contrib.prodigy(50 * lr)",
    "schedule_free_adamw": "contrib.schedule_free_adamw(0.01)",
    "schedule_free_sgd": "contrib.schedule_free_sgd(0.01)",
    "simplified_ademamix": "contrib.simplified_ademamix(0.1 * lr)",
}

_PARTS = {
    "adaptive_grad_clip": "optax.adaptive_grad_clip(0.1), optax.sgd(lr)",
    "add_decayed_weights": "optax.add_decayed_weights(1e-3), optax.sgd(lr)",
    "add_noise": "optax.add_noise(1e-4, 0.55, key=0), optax.sgd(lr)",
    "apply_every": "optax.sgd(lr), optax.apply_every(2)",
    "chain": "optax.chain(optax.sgd(lr))",
    "clip": "optax.clip(0.1), optax.sgd(lr)",
    "clip_by_block_rms": "optax.clip_by_block_rms(0.1), optax.sgd(lr)",
    "clip_by_global_norm": "optax.clip_by_global_norm(0.1), optax.sgd(lr)",
    "ema": "optax.ema(0.9), optax.sgd(lr)",
    "freeze": "optax.freeze({'kernel': False, 'bias': True}), optax.sgd(lr)",
    "identity": "optax.identity(), optax.sgd(lr)",
    "keep_params_nonnegative": "optax.sgd(lr), optax.keep_params_nonnegative()",
    "named_chain": "optax.named_chain(('sgd', optax.sgd(lr)))",
    "normalize": "contrib.normalize(), optax.sgd(lr)",
    "normalize_by_update_norm": "optax.normalize_by_update_norm(), optax.sgd(lr)",
    "scale": "optax.scale(-lr)",
    "scale_by_acprop": "contrib.scale_by_acprop(), optax.scale(-lr)",
    "scale_by_adadelta": "optax.scale_by_adadelta(), optax.scale(-100 * lr)",
    "scale_by_adam": "optax.scale_by_adam(), optax.scale(-lr)",
    "scale_by_adamax": "optax.scale_by_adamax(), optax.scale(-lr)",
    "scale_by_adan": "optax.scale_by_adan(), optax.scale(-lr)",
    "scale_by_ademamix": "contrib.scale_by_ademamix(), optax.scale(-lr)",
    "scale_by_adopt": "contrib.scale_by_adopt(), optax.scale(-lr)",
    "scale_by_amsgrad": "optax.scale_by_amsgrad(), optax.scale(-lr)",
    "scale_by_belief": "optax.scale_by_belief(), optax.scale(-lr)",
    "scale_by_cocob": "contrib.scale_by_cocob()",
    "scale_by_distance_over_gradients": (
        "optax.scale_by_distance_over_gradients(), optax.scale(-100 * lr)"
    ),
    "scale_by_factored_rms": "optax.scale_by_factored_rms(), optax.scale(-lr)",
    "scale_by_galore": "contrib.scale_by_galore(rank=2), optax.scale(-lr)",
    "scale_by_lbfgs": "optax.scale_by_lbfgs(), optax.scale(-lr)",
    "scale_by_learning_rate": "optax.scale_by_learning_rate(lr)",
    "scale_by_lion": "optax.scale_by_lion(), optax.scale(-lr)",
    "scale_by_madgrad": "contrib.scale_by_madgrad(lr)",
    "scale_by_muon": (
        "optax.masked(contrib.scale_by_muon(weight_dimension_numbers="
        "{'kernel': contrib.MuonDimensionNumbers(), 'bias': optax.MaskedNode()}), kernel), "
        "optax.scale(-lr)"
    ),
    "scale_by_novograd": "optax.scale_by_novograd(), optax.scale(-lr)",
    "scale_by_optimistic_gradient": "optax.scale_by_optimistic_gradient(), optax.scale(-lr)",
    "scale_by_param_block_norm": "optax.scale_by_param_block_norm(), optax.scale(-lr)",
    "scale_by_param_block_rms": "optax.scale_by_param_block_rms(), optax.scale(-lr)",
    "scale_by_polyak": "optax.scale(-1.0), optax.scale_by_polyak()",
    "scale_by_radam": "optax.scale_by_radam(), optax.scale(-lr)",
    "scale_by_rms": "optax.scale_by_rms(), optax.scale(-lr)",
    "scale_by_rprop": "optax.scale_by_rprop(lr), optax.scale(-1.0)",
    "scale_by_rss": "optax.scale_by_rss(), optax.scale(-lr)",
    "scale_by_schedule": "optax.scale_by_schedule(lambda count: -lr / (1 + count))",
    "scale_by_sign": "optax.scale_by_sign(), optax.scale(-lr)",
    "scale_by_simplified_ademamix": (
        "contrib.scale_by_simplified_ademamix(), optax.scale(-0.1 * lr)"
    ),
    "scale_by_sm3": "optax.scale_by_sm3(), optax.scale(-lr)",
    "scale_by_stddev": "optax.scale_by_stddev(), optax.scale(-lr)",
    "scale_by_trust_ratio": "optax.scale_by_trust_ratio(), optax.scale(-lr)",
    "scale_by_yogi": "optax.scale_by_yogi(), optax.scale(-lr)",
    "snapshot": "optax.snapshot('norm', optax.tree.norm), optax.sgd(lr)",
    "stateless": "optax.stateless(lambda updates, params: updates), optax.sgd(lr)",
    "stateless_with_tree_map": "optax.stateless_with_tree_map(lambda g, p: g), optax.sgd(lr)",
    "trace": "optax.trace(0.5), optax.sgd(lr)",
    "with_extra_args_support": "optax.with_extra_args_support(optax.sgd(lr))",
    "zero_nans": "optax.zero_nans(), optax.sgd(lr)",
    "reduce_on_plateau": "optax.sgd(lr), contrib.reduce_on_plateau(patience=2)",
}

_ALWAYS = "lambda step, **extra: step >= 0"
_WRAPPERS = {
    "conditionally_mask": f"optax.conditionally_mask(optax.sgd(lr), {_ALWAYS})",
    "conditionally_transform": f"optax.conditionally_transform(optax.sgd(lr), {_ALWAYS})",
    "flatten": "optax.flatten(optax.adam(lr))",
    "selective_transform": (
        "optax.selective_transform(optax.sgd(lr), freeze_mask={'kernel': False, 'bias': True})"
    ),
    "mechanize": "contrib.mechanize(optax.sgd(lr), weight_decay=0.0)",
    "sam": "contrib.sam(optax.sgd(lr), optax.sgd(0.01))",
    "schedule_free": "contrib.schedule_free(optax.sgd(lr), lr)",
    "split_real_and_imaginary": "contrib.split_real_and_imaginary(optax.adam(lr))",
}

# Wrappers that every optimizer above is trained in; `tx` is `centralize()` and the optimizer.
_AROUND = {
    "MultiSteps": "optax.MultiSteps(tx, every_k_schedule=2)",
    "masked": "optax.chain(optax.masked(tx, kernel), optax.masked(optax.set_to_zero(), bias))",
    "partition": "optax.partition({'a': tx, 'b': optax.sgd(lr)}, {'kernel': 'a', 'bias': 'b'})",
    "apply_if_finite": "optax.apply_if_finite(tx, max_consecutive_errors=3)",
    "inject_hyperparams": "optax.inject_hyperparams(lambda learning_rate: make(learning_rate))(lr)",
    "lookahead": "optax.lookahead(tx, sync_period=4, slow_step_size=0.5)",
}
_SAME_AS = {"multi_transform": "partition"}

_LEFT_OUT = {
    "centralize": "is what this library replaces: its means are over other axes",
    "optimistic_adam": "is deprecated for `optimistic_adam_v2`",
    "inject_stateful_hyperparams": "is the deprecated name of `inject_hyperparams`",
    "monitor": "changes its state's structure at its first update, whatever stands before it",
    "measure_with_ema": "is a part of `monitor`",
    "set_to_zero": "trains nothing; it stands in `masked` above",
    "scale_by_backtracking_linesearch": (
        "evaluates the loss again, along a direction that it takes for the loss's own gradient"
    ),
    "scale_by_zoom_linesearch": (
        "evaluates the loss and its gradient again, and would see the gradient uncentralized"
    ),
    "sophia": "estimates the loss's Hessian, uncentralized, from the loss itself",
    "hutchinson_estimator_diag_hessian": "as `sophia`, whose part it is",
    "differentially_private_aggregate": (
        "takes one gradient per example and clips it first: chain `centralize()` after it"
    ),
    "dpsgd": "as `differentially_private_aggregate`, which it begins with",
}

# Functions without a return type that are no gradient transformations.
_NO_TRANSFORMATIONS = {
    "matrix_inverse_pth_root",
    "schedule_free_eval_params",
    "sigmoid_binary_cross_entropy",
    "update_infinity_moment",
    "update_moment",
    "update_moment_per_elem_norm",
}

_TRAINED = _OPTIMIZERS | _PARTS | _WRAPPERS
_NEED_VALUE = {"polyak_sgd", "scale_by_polyak", "momo", "momo_adam", "reduce_on_plateau"}
_PROMOTE_RANKS = {"scale_by_distance_over_gradients"}  # against what conftest.py forbids
_LR = 0.02
_STEPS = 24


def _build(source, **names):
    masks = {"kernel": {"kernel": True, "bias": False}, "bias": {"kernel": False, "bias": True}}
    return eval(source, {"optax": optax, "contrib": optax.contrib, "lr": _LR, **masks, **names})


def _centralized(name, learning_rate=_LR):
    built = _build(_TRAINED[name], lr=learning_rate)
    return optax.chain(optax_gc.centralize(), *(built if type(built) is tuple else [built]))


def _problem():
    """Parameters, and the squared distance to a target with the same fan-in means."""
    kernel = jax.random.uniform(jax.random.key(0), (4, 3), minval=1.5, maxval=2.5)
    params = {"kernel": kernel, "bias": jnp.full(3, 0.5)}
    way = {"kernel": jnp.array([[1.0], [-1.0], [0.8], [-0.8]]), "bias": jnp.ones(3)}
    target = jax.tree.map(lambda start, offset: start + offset, params, way)

    def loss(params):
        return sum(jnp.sum((params[name] - target[name]) ** 2) for name in params)

    return params, loss


def _losses(tx, params, loss, needs_value, trained=lambda params: params):
    """The loss at every step; `scan` refuses a state whose structure or dtypes change."""

    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(trained(params))
        extra = {"value": value} if needs_value else {}
        updates, state = tx.update(grads, state, params, **extra)
        return (optax.apply_updates(params, updates), state), value

    return jax.lax.scan(step, (params, tx.init(params)), length=_STEPS)[1]


# --- the tables are whole ---


def _public_transformations():
    functions = (types.FunctionType, functools.partial)
    for name, member in [*vars(optax).items(), *vars(optax.contrib).items()]:
        if name.startswith("_") or not isinstance(member, functions):
            continue
        returns = inspect.signature(member).return_annotation
        if returns is inspect.Signature.empty or "GradientTransformation" in str(returns):
            yield name


def test_every_transformation_of_optax_is_in_a_table():
    tables = [*_TRAINED, *_AROUND, *_SAME_AS, *_LEFT_OUT, *_NO_TRANSFORMATIONS]
    assert len(tables) == len(set(tables))
    new = {"MultiSteps", *_public_transformations()} - set(tables)
    assert not new, f"sort {sorted(new)} into a table of this module"


def test_the_document_shows_the_tables():
    path = pathlib.Path(__file__).parents[2] / "docs" / "library" / "optimizers.md"
    assert path.read_text() == _document(), "regenerate docs/library/optimizers.md"


# --- they train ---


@pytest.mark.parametrize("name", [*_PARTS, *_WRAPPERS])
def test_trains(name):
    params, loss = _problem()
    tx = _centralized(name)
    with jax.numpy_rank_promotion("allow" if name in _PROMOTE_RANKS else "raise"):
        losses = jax.jit(lambda: _losses(tx, params, loss, name in _NEED_VALUE))()
    assert float(losses[-1]) < float(losses[0])


def _start(wrapper, params):
    """What the wrapper trains, and how the parameters are read off it."""
    if wrapper in ("masked", "partition"):
        return params, lambda params: params
    kernel = {"kernel": params["kernel"]}  # one leaf is compiled sooner than two
    if wrapper == "lookahead":
        return optax.LookaheadParams.init_synced(kernel), lambda params: params.fast
    return kernel, lambda params: params


@pytest.mark.parametrize("name", _OPTIMIZERS)
def test_trains_in_every_wrapper(name):
    params, loss = _problem()
    make = functools.partial(_centralized, name)
    needs_value = name in _NEED_VALUE

    @jax.jit  # all at once: compiling them one by one takes twice as long
    def losses():
        by_wrapper = {"alone": _losses(make(), params, loss, needs_value)}
        for wrapper, source in _AROUND.items():
            if wrapper == "lookahead" and needs_value:
                continue  # it does not hand the value on
            tx = _build(source, tx=make(), make=make)
            start, trained = _start(wrapper, params)
            by_wrapper[wrapper] = _losses(tx, start, loss, needs_value, trained)
        return by_wrapper

    not_trained = {
        wrapper: trajectory
        for wrapper, trajectory in jax.device_get(losses()).items()
        if not trajectory[-1] < trajectory[0]
    }
    assert not not_trained


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", _OPTIMIZERS)
def test_half_precision_is_left_to_the_optimizer(name, dtype):
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), _problem()[0])
    value = {"value": jnp.float32(1.0)} if name in _NEED_VALUE else {}
    centralized, alone = _centralized(name), optax.chain(_build(_OPTIMIZERS[name]))

    def types_of(tx):
        updates, state = jax.eval_shape(lambda: tx.update(params, tx.init(params), params, **value))
        return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves((updates, state))]

    assert types_of(centralized) == types_of(alone)


def test_apply_if_finite_skips_a_step():
    tx = optax.apply_if_finite(_centralized("sgd"), max_consecutive_errors=3)
    params, _ = _problem()
    state = tx.init(params)
    updates, state = tx.update(jax.tree.map(lambda p: p * jnp.nan, params), state, params)
    assert all(not leaf.any() for leaf in jax.tree.leaves(updates))
    updates, _ = tx.update(params, state, params)
    assert updates["kernel"].any()


# --- the document ---


def _document():
    def table(head, rows):
        return "\n".join([f"| {head} |", "|---|---|", *rows])

    def built(entries):
        return [f"| `{name}` | `{source}` |" for name, source in sorted(entries.items())]

    return _TEMPLATE.format(
        optimizers=table("name | chained after `centralize()`", built(_OPTIMIZERS)),
        around=table("wrapper | as trained", built(_AROUND)),
        parts=table("name | chained after `centralize()`", built(_PARTS)),
        wrappers=table("name | chained after `centralize()`", built(_WRAPPERS)),
        left_out=table(
            "name | left out, because it",
            [f"| `{n}` | {_LEFT_OUT[n]} |" for n in sorted(_LEFT_OUT)],
        ),
        need_value=", ".join(f"`{name}`" for name in sorted(_NEED_VALUE)),
    )


_TEMPLATE = """\
# Centralization with the optimizers of optax

`centralize()` is a gradient transformation like any other, so it chains with all of them. This is
what the tests train: a small problem whose loss must fall, with a state that keeps its
structure and dtypes. The tables are written by `tests/optax_gc/test_optax_matrix.py`, which fails
when optax has a transformation that is in none of them.

Where an optimizer normalizes or projects what it is given (Muon, Lion, GaLore, sign descent) the
update's fan-in mean is not zero again, any more than it is after Adam: to centralize the step
itself, put `centralize()` after it, before the learning rate.

## Optimizers

Each is trained alone and in every wrapper of the next table.

{optimizers}

Called with the loss, `tx.update(grads, state, params, value=loss)`: {need_value}. They are
not trained in `lookahead`, which hands no such argument on.

## Wrappers around them

`tx` is `centralize()` and an optimizer; `kernel` and `bias` are masks of the one leaf and the
other; `make` makes `tx` from a learning rate. `multi_transform` is `partition` by its old name.

{around}

## Parts of a chain

{parts}

## Wrappers that stand after it

{wrappers}

## Left out

{left_out}
"""


if __name__ == "__main__":
    print(_document(), end="")
