"""Shapes, notes and comparisons for the tests of `infer_axes` and of the rules."""

import re

import jax
import jax.numpy as jnp

import optax_gc
from optax_gc._plan import path_name

ADDED, MULTIPLIED, GATHERED = "only added", "only multiplied", "only gathered"
NOT_FLOATING_POINT = "not an array of floating-point numbers"


def f32(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def i32(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def infer(fn, params, *args, **kwargs):
    """Return `{path: fan-in axes}` as inferred, with the note for leaves without fan-in."""
    fan_ins = optax_gc.infer_axes(fn, params, *args, **kwargs)
    paths_and_fan_ins, structure = jax.tree_util.tree_flatten_with_path(fan_ins)
    assert structure == jax.tree.structure(params)
    return {
        path_name(path).removesuffix("/value"): fan_in.axes or fan_in.note  # NNX boxes its leaves
        for path, fan_in in paths_and_fan_ins
    }


def axes_of(fn, weight, *args):
    """Return the inferred axes of a single weight, or its note."""
    fan_in = optax_gc.infer_axes(fn, weight, *args)
    return fan_in.axes or fan_in.note


def infer_linen(module, *args):
    """Return `infer` of a Linen module. Collections other than params are arguments."""
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = dict(jax.eval_shape(module.init, rngs, *args))
    params = variables.pop("params")

    def apply(params, variables, *args):
        rngs = {"dropout": jax.random.key(1)}
        return module.apply(
            {"params": params, **variables}, *args, rngs=rngs, mutable=list(variables)
        )

    return infer(apply, params, variables, *args)


def assert_axes(inferred, expected):
    """Check that each path matches one pattern of `expected`, with its axes, and all are used."""
    unused = set(expected)
    for path, axes in inferred.items():
        patterns = [pattern for pattern in expected if re.fullmatch(pattern, path)]
        assert len(patterns) == 1, f"{path} matches {patterns}"
        assert axes == expected[patterns[0]], path
        unused -= set(patterns)
    assert not unused, f"no leaf matches {unused}"
