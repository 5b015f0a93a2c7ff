"""Every gradient transformation of optax and `optax.contrib`, chained after `centralize()`."""

import functools
import inspect
import types

import jax
import jax.numpy as jnp
import optax
import optax.contrib
import pytest

import optax_gc
from tests.support.optax_matrix import (
    ALIASES,
    CHAIN_PARTS,
    INNER_WRAPPERS,
    NEEDS_VALUE,
    NOT_TESTED,
    OPTIMIZERS,
    OTHER_FUNCTIONS,
    OUTER_WRAPPERS,
    PAGE,
    PROMOTES_RANKS,
    TRAINED,
    render_page,
)

pytestmark = pytest.mark.slow

_LR = 0.02
_STEPS = 24


def _build(source, **names):
    masks = {"kernel": {"kernel": True, "bias": False}, "bias": {"kernel": False, "bias": True}}
    return eval(source, {"optax": optax, "contrib": optax.contrib, "lr": _LR, **masks, **names})


def _testable(names):
    """Return parameters for the names, each skipped if this optax does not have it."""
    known = {**vars(optax), **vars(optax.contrib)}
    missing = f"optax {optax.__version__} has no "
    return [
        pytest.param(name, marks=pytest.mark.skipif(name not in known, reason=missing + name))
        for name in names
    ]


def _make(name, learning_rate=_LR):
    built = _build(TRAINED[name], lr=learning_rate)
    return optax.chain(optax_gc.centralize(), *(built if type(built) is tuple else [built]))


def _problem():
    """Return parameters, and the squared distance to a target with the same fan-in means."""
    kernel = jax.random.uniform(jax.random.key(0), (4, 3), minval=1.5, maxval=2.5)
    params = {"kernel": kernel, "bias": jnp.full(3, 0.5)}
    offsets = {"kernel": jnp.array([[1.0], [-1.0], [0.8], [-0.8]]), "bias": jnp.ones(3)}
    target = jax.tree.map(lambda start, offset: start + offset, params, offsets)

    def loss(params):
        return sum(jnp.sum((params[name] - target[name]) ** 2) for name in params)

    return params, loss


def _losses(tx, params, loss, needs_value, read_params=lambda params: params):
    """Return the loss at every step. `scan` raises if the state changes its structure or dtypes."""

    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(read_params(params))
        extra = {"value": value} if needs_value else {}
        updates, state = tx.update(grads, state, params, **extra)
        return (optax.apply_updates(params, updates), state), value

    return jax.lax.scan(step, (params, tx.init(params)), length=_STEPS)[1]


# Completeness


def _public_transformations():
    functions = (types.FunctionType, functools.partial)
    for name, member in [*vars(optax).items(), *vars(optax.contrib).items()]:
        if name.startswith("_") or not isinstance(member, functions):
            continue
        returns = inspect.signature(member).return_annotation
        if returns is inspect.Signature.empty or "GradientTransformation" in str(returns):
            yield name


def test_tables_contain_all_transformations():
    tables = [*TRAINED, *OUTER_WRAPPERS, *ALIASES, *NOT_TESTED, *OTHER_FUNCTIONS]
    assert len(tables) == len(set(tables))
    missing = {"MultiSteps", *_public_transformations()} - set(tables)
    assert not missing, f"add {sorted(missing)} to a table of tests/support/optax_matrix.py"


def test_page_is_up_to_date():
    command = f"python -m tests.support.optax_matrix > {PAGE}"
    assert PAGE.read_text() == render_page(), f"run {command}"


# Training


@pytest.mark.parametrize("name", _testable([*CHAIN_PARTS, *INNER_WRAPPERS]))
def test_chain_part_trains(name):
    params, loss = _problem()
    tx = _make(name)
    with jax.numpy_rank_promotion("allow" if name in PROMOTES_RANKS else "raise"):
        losses = jax.jit(lambda: _losses(tx, params, loss, name in NEEDS_VALUE))()
    assert float(losses[-1]) < float(losses[0])


def _trainable(wrapper, params):
    """Return what the wrapper trains, and the function that reads the parameters from it."""
    if wrapper in ("masked", "partition"):
        return params, lambda params: params
    kernel = {"kernel": params["kernel"]}  # one leaf compiles faster than two
    if wrapper == "lookahead":
        return optax.LookaheadParams.init_synced(kernel), lambda params: params.fast
    return kernel, lambda params: params


@pytest.mark.parametrize("name", _testable(OPTIMIZERS))
def test_optimizer_trains_in_wrappers(name):
    params, loss = _problem()
    make = functools.partial(_make, name)
    needs_value = name in NEEDS_VALUE

    @jax.jit  # one compilation takes half the time of one per wrapper
    def losses():
        by_wrapper = {"alone": _losses(make(), params, loss, needs_value)}
        for wrapper, source in OUTER_WRAPPERS.items():
            if wrapper == "lookahead" and needs_value:
                continue  # it does not pass `value` on
            tx = _build(source, tx=make(), make=make)
            start, read_params = _trainable(wrapper, params)
            by_wrapper[wrapper] = _losses(tx, start, loss, needs_value, read_params)
        return by_wrapper

    not_trained = {
        wrapper: trajectory
        for wrapper, trajectory in jax.device_get(losses()).items()
        if not trajectory[-1] < trajectory[0]
    }
    assert not not_trained


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", _testable(OPTIMIZERS))
def test_half_precision_types_unchanged(name, dtype):
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), _problem()[0])
    value = {"value": jnp.float32(1.0)} if name in NEEDS_VALUE else {}
    centralized, alone = _make(name), optax.chain(_build(OPTIMIZERS[name]))

    def types_of(tx):
        updates, state = jax.eval_shape(lambda: tx.update(params, tx.init(params), params, **value))
        return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves((updates, state))]

    assert types_of(centralized) == types_of(alone)


def test_apply_if_finite_skips_a_step():
    tx = optax.apply_if_finite(_make("sgd"), max_consecutive_errors=3)
    params, _ = _problem()
    state = tx.init(params)
    updates, state = tx.update(jax.tree.map(lambda p: p * jnp.nan, params), state, params)
    assert all(not leaf.any() for leaf in jax.tree.leaves(updates))
    updates, _ = tx.update(params, state, params)
    assert updates["kernel"].any()
