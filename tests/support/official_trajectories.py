"""Run the authors' optimizers by class name, with `optax_gc.official` and with NumPy."""

import operator

import jax
import numpy as np
import optax

import optax_gc
from optax_gc import official
from tests.support import official_numpy
from tests.support.x64 import enable_x64

FACTORIES = {
    "SGD": official.sgd_gc,
    "SGDW": official.sgdw_gc,
    "Adam": official.adam_gc,
    "AdamW": official.adamw_gc,
    "Adagrad": official.adagrad_gc,
}
CLASSES = [f"{name}_{suffix}" for name in FACTORIES for suffix in ("GC", "GCC")]
CLASSES += [f"{name}_{suffix}" for name in ("Adam", "AdamW") for suffix in ("GC2", "GCC2")]

_REFERENCES = {
    "SGD": official_numpy.sgd_gc,
    "SGDW": official_numpy.sgdw_gc,
    "Adam": official_numpy.adam_gc,
    "AdamW": official_numpy.adamw_gc,
    "Adagrad": official_numpy.adagrad_gc,
}


def make_optimizer(class_name, learning_rate, **kwargs):
    """Return the optimizer of `optax_gc.official` that corresponds to the authors' class."""
    name, variant = _split(class_name)
    return FACTORIES[name](learning_rate, **variant, **kwargs)


def run_reference(class_name, params, grads, learning_rates, **kwargs):
    """Return the parameters after each step, computed by NumPy, stacked as `grads` are."""
    name, variant = _split(class_name)
    rule = _REFERENCES[name]
    return {
        key: rule(params[key], grads[key], learning_rates, **variant, **kwargs) for key in params
    }


def run_optimizer(tx, params, grads):
    """Return the parameters after each step, computed by optax, stacked as `grads` are."""
    # Not jitted: compilation would take longer than these few small steps.
    state, trajectory = tx.init(params), []
    for step in range(len(next(iter(grads.values())))):
        gradient = jax.tree.map(operator.itemgetter(step), grads)
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        trajectory.append(jax.device_get(params))
    return jax.tree.map(lambda *arrays: np.stack(arrays), *trajectory)


def run_official(class_name, params, grads, learning_rate, *, layout, **kwargs):
    """Return the trajectory of `optax_gc.official` in float64.

    All arrays have PyTorch's layout (out, in, height, width). With `layout="flax"` the optimizer
    sees them as (height, width, in, out).
    """
    axes = optax_gc.first_axis_out if layout == "torch" else None
    if layout == "flax":
        params, grads = _reverse_axes(params), _reverse_axes(grads, leading=1)
    with enable_x64():
        tx = make_optimizer(class_name, learning_rate, axes=axes, **kwargs)
        trajectory = run_optimizer(tx, params, grads)
    return _reverse_axes(trajectory, leading=1) if layout == "flax" else trajectory


def max_difference(actual, expected):
    """Return the largest absolute difference between two dicts of arrays of equal shapes."""
    assert actual.keys() == expected.keys()
    for name in expected:
        assert actual[name].shape == expected[name].shape
        assert actual[name].dtype == expected[name].dtype == np.float64
    # NumPy's maximum, because Python's may skip NaN.
    return np.max([np.abs(actual[name] - expected[name]).max() for name in expected])


def _split(class_name):
    """Split a name such as `Adam_GCC2` into the optimizer and the arguments of the variant."""
    name, suffix = class_name.split("_")
    variant = {"conv_only": suffix.startswith("GCC")}
    if suffix.endswith("2"):
        variant["location"] = "update"
    return name, variant


def _reverse_axes(arrays, leading=0):
    """Reverse the order of all axes behind the first `leading` ones."""

    def reverse(array):
        return np.transpose(array, [*range(leading), *reversed(range(leading, array.ndim))])

    return {name: reverse(array) for name, array in arrays.items()}
