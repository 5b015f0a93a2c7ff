"""The authors' optimizers: their own trajectories, and what the golden file leaves at default."""

import inspect
import json
import operator
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_gc
from optax_gc import official

_FACTORIES = {
    "SGD": official.sgd_gc,
    "SGDW": official.sgdw_gc,
    "Adam": official.adam_gc,
    "AdamW": official.adamw_gc,
    "Adagrad": official.adagrad_gc,
}
_CLASSES = [f"{name}_{suffix}" for name in _FACTORIES for suffix in ("GC", "GCC")]
_CLASSES += [f"{name}_{suffix}" for name in ("Adam", "AdamW") for suffix in ("GC2", "GCC2")]
_TOLERANCE = 1e-10
_STEPS = 8


def _ours(class_name, learning_rate, **kwargs):
    name, suffix = class_name.split("_")
    if suffix.endswith("2"):
        kwargs["location"] = "update"
    return _FACTORIES[name](learning_rate, conv_only=suffix.startswith("GCC"), **kwargs)


def _trajectory(tx, params, grads):
    """The parameters after each step, stacked as `grads` are."""
    # Not jitted: each would be compiled once to run once, on arrays of a few numbers.
    state, trajectory = tx.init(params), []
    for step in range(_STEPS):
        gradient = jax.tree.map(operator.itemgetter(step), grads)
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        trajectory.append(jax.device_get(params))
    return jax.tree.map(lambda *arrays: np.stack(arrays), *trajectory)


def _largest_difference(ours, theirs):
    return max(float(np.abs(ours[name] - theirs[name]).max()) for name in theirs)


# --- the golden trajectories ---


@pytest.fixture(scope="module")
def golden():
    folder = os.environ.get("OPTAX_GC_GOLDEN_DIR")
    if folder is None:
        pytest.skip("OPTAX_GC_GOLDEN_DIR names no folder with official_optimizers.npz")
    path = pathlib.Path(folder) / "official_optimizers.npz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with np.load(path) as file:
        return dict(file)


def _stacked(golden, prefix, names):
    return {
        name: np.stack([golden[f"{prefix}/{step}/{name}"] for step in range(1, _STEPS + 1)])
        for name in names
    }


def _to_flax(arrays, leading=0):
    """(out, in, space) to (space, in, out), behind `leading` axes that stay."""

    def transpose(array):
        kept = range(leading)
        return np.transpose(array, [*kept, *range(leading, array.ndim)[::-1]])

    return {name: transpose(array) for name, array in arrays.items()}


@pytest.mark.parametrize("layout", ["torch", "flax"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("class_name", _CLASSES)
def test_golden(golden, class_name, weight_decay, layout):
    cases = json.loads(str(golden["cases"]))
    assert len(cases) == 2 * len(_CLASSES)
    [(case, kwargs)] = [
        (name, dict(kwargs))
        for name, kwargs in cases.items()
        if (kwargs["class"], kwargs["weight_decay"]) == (class_name, weight_decay)
    ]
    del kwargs["class"]
    names = ["conv2d", "conv1d", "dense", "bias"]
    params = {name: golden[f"params/0/{name}"] for name in names}
    grads, theirs = _stacked(golden, "grads", names), _stacked(golden, case, names)
    axes = optax_gc.first_axis_out
    if layout == "flax":
        params, axes = _to_flax(params), None
        grads, theirs = _to_flax(grads, 1), _to_flax(theirs, 1)
    with jax.enable_x64(True):
        ours = _trajectory(_ours(class_name, kwargs.pop("lr"), **kwargs, axes=axes), params, grads)
        difference = _largest_difference(ours, theirs)
    assert difference < _TOLERANCE


# --- arguments that the golden file leaves at their defaults ---


def _centred(gradient, class_name):
    least = 3 if "GCC" in class_name else 1
    if gradient.ndim <= least:
        return gradient
    return gradient - gradient.mean(axis=tuple(range(1, gradient.ndim)), keepdims=True)


def _sgd(class_name, w, grads, rates, *, momentum, dampening=0.0, nesterov=False, weight_decay=0.0):
    coupled = class_name.startswith("SGD_")
    buffer = None
    for gradient, rate in zip(grads, rates, strict=True):
        g = _centred(gradient + weight_decay * w if coupled else gradient, class_name)
        buffer = g if buffer is None else momentum * buffer + (1 - dampening) * g
        step = g + momentum * buffer if nesterov else buffer
        w = w - rate * step - (0.0 if coupled else rate * weight_decay * w)
        yield w


def _adam(class_name, w, grads, rates, *, weight_decay=0.0, amsgrad=False, eps=1e-8):
    b1, b2 = 0.9, 0.999
    coupled, at_update = class_name.startswith("Adam_"), class_name.endswith("2")
    m = v = largest = np.zeros_like(w)
    for t, (gradient, rate) in enumerate(zip(grads, rates, strict=True), start=1):
        g = gradient + weight_decay * w if coupled else gradient
        g = g if at_update else _centred(g, class_name)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        largest = np.maximum(largest, v)
        root = np.sqrt(largest if amsgrad else v)
        correction1, correction2 = 1 - b1**t, 1 - b2**t
        if coupled:
            step = (m / correction1) / (root / np.sqrt(correction2) + eps)
        else:
            step = np.sqrt(correction2) / correction1 * (weight_decay * w + m / (root + eps))
        w = w - rate * (_centred(step, class_name) if at_update else step)
        yield w


def _adagrad(class_name, w, grads, rates, *, lr_decay=0.0, weight_decay=0.0, eps=1e-10):
    total = np.zeros_like(w)
    for t, (gradient, rate) in enumerate(zip(grads, rates, strict=True), start=1):
        g = _centred(gradient + weight_decay * w, class_name)
        total = total + g**2
        w = w - rate / (1 + (t - 1) * lr_decay) * g / (np.sqrt(total) + eps)
        yield w


_REFERENCES = {"SGD": _sgd, "SGDW": _sgd, "Adam": _adam, "AdamW": _adam, "Adagrad": _adagrad}
_DECAY = {"weight_decay": 0.05}
_OPTIONS = [
    ("SGD_GC", {"momentum": 0.9, "nesterov": True, **_DECAY}),
    ("SGD_GC", {"momentum": 0.9, "dampening": 0.3, **_DECAY}),
    ("SGDW_GCC", {"momentum": 0.8, "nesterov": True, **_DECAY}),
    ("SGDW_GC", {"momentum": 0.8, "dampening": 0.5, **_DECAY}),
    ("Adam_GC", {"amsgrad": True, **_DECAY}),
    ("Adam_GCC2", {"amsgrad": True, "eps": 1e-2, **_DECAY}),
    ("AdamW_GCC", {"amsgrad": True, "eps": 1e-2, **_DECAY}),
    ("AdamW_GC2", {"amsgrad": True, **_DECAY}),
    ("Adagrad_GC", {"lr_decay": 0.2, **_DECAY}),
    ("Adagrad_GCC", {"lr_decay": 0.2, "eps": 1e-2}),
]


def _problem():
    rng = np.random.default_rng(0)
    shapes = {"conv": (4, 3, 2, 2), "dense": (5, 4), "bias": (5,)}
    fading = 0.5 ** np.arange(_STEPS)  # so that amsgrad's maximum is not its last
    params = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    grads = {
        name: np.stack([scale * rng.normal(size=shape) for scale in fading])
        for name, shape in shapes.items()
    }
    return params, grads


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize(("class_name", "kwargs"), _OPTIONS)
def test_options(class_name, kwargs, scheduled):
    params, grads = _problem()
    schedule = lambda count: 0.1 * 0.7**count  # noqa: E731
    rates = [0.1 * (0.7**step if scheduled else 1.0) for step in range(_STEPS)]
    reference = _REFERENCES[class_name.split("_")[0]]
    theirs = {
        name: np.stack(list(reference(class_name, params[name], grads[name], rates, **kwargs)))
        for name in params
    }
    with jax.enable_x64(True):
        axes = optax_gc.first_axis_out
        tx = _ours(class_name, schedule if scheduled else 0.1, **kwargs, axes=axes)
        ours = _trajectory(tx, params, grads)
    assert _largest_difference(ours, theirs) < _TOLERANCE


def test_amsgrad_takes_the_maximum_before_the_bias_is_corrected():
    params, grads = _problem()
    with jax.enable_x64(True):
        ours = _trajectory(official.adam_gc(0.1, amsgrad=True), params, grads)
        optaxs = _trajectory(optax.chain(optax_gc.centralize(), optax.amsgrad(0.1)), params, grads)
    np.testing.assert_allclose(ours["dense"][0], optaxs["dense"][0])
    assert _largest_difference(ours, optaxs) > 1e-2


# --- as parts of an optax program ---


@pytest.mark.parametrize("factory", _FACTORIES.values())
def test_without_decay_no_params_are_needed(factory):
    tx = factory(0.1)
    updates, _ = tx.update({"kernel": jnp.eye(2)}, tx.init({"kernel": jnp.ones((2, 2))}))
    assert bool(jnp.isfinite(updates["kernel"]).all())


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.complex64])
@pytest.mark.parametrize(("class_name", "kwargs"), _OPTIONS)
def test_keeps_dtypes_and_state(class_name, kwargs, dtype):
    params = {"kernel": jnp.ones((3, 3, 2, 4), dtype), "bias": jnp.ones(4, dtype)}
    tx = _ours(class_name, optax.constant_schedule(0.1), **kwargs)
    state = tx.init(params)
    updates, after = jax.eval_shape(tx.update, params, state, params)
    assert jax.tree.map(lambda u: u.dtype, updates) == jax.tree.map(lambda p: p.dtype, params)
    typed = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)  # noqa: E731
    assert typed(after) == typed(state)


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
def test_inject_hyperparams(factory, kwargs):
    params, grads = _problem()
    with jax.enable_x64(True):
        plain = _trajectory(factory(0.1, **kwargs), params, grads)
        injected = _trajectory(optax.inject_hyperparams(factory)(0.1, **kwargs), params, grads)
    assert _largest_difference(injected, plain) < _TOLERANCE


def test_state_can_be_donated():
    params = {"kernel": jnp.ones((3, 2))}
    for factory in (official.adam_gc, official.adamw_gc):
        tx = factory(amsgrad=True)
        update = jax.jit(tx.update, donate_argnums=1)
        update(params, jax.device_put(tx.init(params)), params)


# --- bad arguments ---


@pytest.mark.parametrize("factory", [official.adam_gc, official.adamw_gc])
def test_unknown_location(factory):
    with pytest.raises(ValueError, match='location must be "gradient" or "update", got \'foo\''):
        factory(location="foo")


@pytest.mark.parametrize("factory", [official.sgd_gc, official.sgdw_gc])
@pytest.mark.parametrize("kwargs", [{}, {"momentum": 0.9, "dampening": 0.1}])
def test_nesterov_as_torch_refuses_it(factory, kwargs):
    with pytest.raises(ValueError, match="nesterov needs a momentum above zero and no dampening"):
        factory(0.1, nesterov=True, **kwargs)


@pytest.mark.parametrize(
    ("factory", "name"),
    [
        (factory, name)
        for factory in _FACTORIES.values()
        for name in ("learning_rate", "momentum", "b1", "b2", "eps", "weight_decay", "lr_decay")
        if name in inspect.signature(factory).parameters
    ],
)
def test_negative_arguments(factory, name):
    with pytest.raises(ValueError, match=f"{name} must not be negative, got -0.5"):
        factory(**{"learning_rate": 0.1, name: -0.5})
