"""The authors' optimizers: comparison with NumPy, use inside optax, and bad arguments."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_gc
from optax_gc import official
from tests.support.official_trajectories import (
    CLASSES,
    FACTORIES,
    make_optimizer,
    max_difference,
    run_official,
    run_optimizer,
    run_reference,
)
from tests.support.x64 import enable_x64

_STEPS = 8
_TOLERANCE = 1e-13
_RATE = 0.1
_DECAY = {"weight_decay": 0.05}
# The arguments of the recorded trajectories (test_official_golden.py).
_GOLDEN_ARGUMENTS = [
    (
        class_name,
        {"weight_decay": weight_decay} | ({"momentum": 0.9} if "SGD" in class_name else {}),
    )
    for class_name in CLASSES
    for weight_decay in (0.0, 0.05)
]
# Arguments that have their default values in the recorded trajectories.
_OTHER_ARGUMENTS = [
    ("SGD_GC", {"dampening": 0.3, **_DECAY}),
    ("SGD_GC", {"momentum": 0.9, "nesterov": True, **_DECAY}),
    ("SGD_GC", {"momentum": 0.9, "dampening": 0.3, **_DECAY}),
    ("SGDW_GCC", {"momentum": 0.8, "nesterov": True, **_DECAY}),
    ("SGDW_GC", {"momentum": 0.8, "dampening": 0.5, **_DECAY}),
    ("Adam_GC", {"b1": 0.8, "b2": 0.9, "eps": 1e-2}),
    ("Adam_GC", {"amsgrad": True, **_DECAY}),
    ("Adam_GCC2", {"amsgrad": True, "eps": 1e-2, **_DECAY}),
    ("AdamW_GC2", {"b1": 0.8, "b2": 0.9, "eps": 1e-2}),
    ("AdamW_GCC", {"amsgrad": True, "eps": 1e-2, **_DECAY}),
    ("AdamW_GC2", {"amsgrad": True, **_DECAY}),
    ("Adagrad_GC", {"lr_decay": 0.2, **_DECAY}),
    ("Adagrad_GCC", {"lr_decay": 0.2, "eps": 1e-2}),
]


def _problem():
    """Return weights in PyTorch's layout, and their gradients of all steps."""
    rng = np.random.default_rng(0)
    shapes = {"conv2d": (4, 3, 3, 2), "conv1d": (6, 4, 3), "dense": (5, 4), "bias": (5,)}
    # Gradients shrink, so that the maximum that amsgrad keeps is not the latest value.
    scales = 0.5 ** np.arange(_STEPS)
    params = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    grads = {
        name: np.stack([scale * rng.normal(size=shape) for scale in scales])
        for name, shape in shapes.items()
    }
    return params, grads


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["torch", "flax"])
@pytest.mark.parametrize(("class_name", "kwargs"), _GOLDEN_ARGUMENTS + _OTHER_ARGUMENTS)
def test_official_matches_numpy(class_name, kwargs, layout):
    params, grads = _problem()
    expected = run_reference(class_name, params, grads, [_RATE] * _STEPS, **kwargs)
    actual = run_official(class_name, params, grads, _RATE, layout=layout, **kwargs)
    assert max_difference(actual, expected) < _TOLERANCE


@pytest.mark.parametrize(("class_name", "kwargs"), _OTHER_ARGUMENTS)
def test_schedule_matches_numpy(class_name, kwargs):
    def schedule(count):
        return _RATE * 0.7**count

    params, grads = _problem()
    rates = [schedule(step) for step in range(_STEPS)]
    expected = run_reference(class_name, params, grads, rates, **kwargs)
    actual = run_official(class_name, params, grads, schedule, layout="torch", **kwargs)
    assert max_difference(actual, expected) < _TOLERANCE


def test_amsgrad_differs_from_optax():
    """The maximum is taken before the bias is corrected; optax corrects first."""
    params, grads = _problem()
    with enable_x64():
        ours = run_optimizer(official.adam_gc(_RATE, amsgrad=True), params, grads)
        plain = optax.chain(optax_gc.centralize(), optax.amsgrad(_RATE))
        theirs = run_optimizer(plain, params, grads)
    np.testing.assert_allclose(ours["dense"][0], theirs["dense"][0])
    assert max_difference(ours, theirs) > 1e-2


# Use inside an optax program


@pytest.mark.parametrize("factory", FACTORIES.values())
def test_no_params_without_weight_decay(factory):
    tx = factory(0.1)
    updates, _ = tx.update({"kernel": jnp.eye(2)}, tx.init({"kernel": jnp.ones((2, 2))}))
    assert bool(jnp.isfinite(updates["kernel"]).all())


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.complex64])
@pytest.mark.parametrize(("class_name", "kwargs"), _OTHER_ARGUMENTS)
def test_keeps_dtypes_and_state(class_name, kwargs, dtype):
    params = {"kernel": jnp.ones((3, 3, 2, 4), dtype), "bias": jnp.ones(4, dtype)}
    tx = make_optimizer(class_name, optax.constant_schedule(0.1), **kwargs)
    state = tx.init(params)
    updates, after = jax.eval_shape(tx.update, params, state, params)
    assert jax.tree.map(lambda u: u.dtype, updates) == jax.tree.map(lambda p: p.dtype, params)
    shapes, shapes_after = (
        jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (state, after)
    )
    assert shapes_after == shapes


@pytest.mark.parametrize(
    ("factory", "kwargs"),
    [
        (official.sgd_gc, {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
        (official.sgd_gc, {"momentum": 0.9, "nesterov": True}),
        (official.sgdw_gc, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        (official.adam_gc, {"amsgrad": True, "location": "update"}),
        (official.adamw_gc, {"amsgrad": True, "weight_decay": 0.1}),
        (official.adagrad_gc, {"lr_decay": 0.2, "weight_decay": 0.1}),
    ],
)
def test_injected_hyperparams_give_same_result(factory, kwargs):
    params, grads = _problem()
    with enable_x64():
        plain = run_optimizer(factory(0.1, **kwargs), params, grads)
        injected = run_optimizer(optax.inject_hyperparams(factory)(0.1, **kwargs), params, grads)
    assert max_difference(injected, plain) < _TOLERANCE


def test_state_can_be_donated():
    params = {"kernel": jnp.ones((3, 2))}
    for factory in (official.adam_gc, official.adamw_gc):
        tx = factory(amsgrad=True)
        update = jax.jit(tx.update, donate_argnums=1)
        update(params, jax.device_put(tx.init(params)), params)


# Bad arguments


@pytest.mark.parametrize("factory", [official.adam_gc, official.adamw_gc])
def test_unknown_location_raises(factory):
    with pytest.raises(ValueError, match=r"location.*gradient.*update.*'foo'"):
        factory(location="foo")


@pytest.mark.parametrize("factory", [official.sgd_gc, official.sgdw_gc])
@pytest.mark.parametrize("kwargs", [{}, {"momentum": 0.9, "dampening": 0.1}])
def test_invalid_nesterov_raises(factory, kwargs):
    with pytest.raises(ValueError, match=r"nesterov.*momentum.*dampening"):
        factory(0.1, nesterov=True, **kwargs)


@pytest.mark.parametrize(
    ("factory", "name"),
    [
        (factory, name)
        for factory in FACTORIES.values()
        for name in ("learning_rate", "momentum", "b1", "b2", "eps", "weight_decay", "lr_decay")
        if name in inspect.signature(factory).parameters
    ],
)
def test_negative_arguments_raise(factory, name):
    with pytest.raises(ValueError, match=rf"{name}.*negative.*-0.5"):
        factory(**{"learning_rate": 0.1, name: -0.5})
