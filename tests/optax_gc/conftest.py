"""What the tests of `infer_axes` share: a tree of `FanIn` as a plain dict to compare by hand."""

import re

import jax
import pytest

import optax_gc
from optax_gc._plan import path_name


@pytest.fixture(scope="session")
def infer():
    """`infer(fn, params, *args)`: each path's fan-in axes, or the note if it has none."""

    def read(fn, params, *args, **kwargs):
        fan_ins = optax_gc.infer_axes(fn, params, *args, **kwargs)
        flat, structure = jax.tree_util.tree_flatten_with_path(fan_ins)
        assert structure == jax.tree.structure(params)
        names = [path_name(path).removesuffix("/value") for path, _ in flat]  # NNX's box
        found = [fan_in.axes or fan_in.note for _, fan_in in flat]
        return dict(zip(names, found, strict=True))

    return read


@pytest.fixture(scope="session")
def infer_linen(infer):
    """`infer_linen(module, *args)`: other collections than params are arguments."""

    def read(module, *args):
        rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        state = dict(jax.eval_shape(module.init, rngs, *args))
        params = state.pop("params")

        def apply(params, state, *args):
            rngs = {"dropout": jax.random.key(1)}
            return module.apply({"params": params, **state}, *args, rngs=rngs, mutable=list(state))

        return infer(apply, params, state, *args)

    return read


@pytest.fixture(scope="session")
def match():
    """`match(found, table)`: every leaf is what the one pattern that fits its path says."""

    def check(found, table):
        unused = set(table)
        for path, axes in found.items():
            patterns = [pattern for pattern in table if re.fullmatch(pattern, path)]
            assert len(patterns) == 1, f"{path} fits {patterns}"
            assert axes == table[patterns[0]], path
            unused -= set(patterns)
        assert not unused, f"no leaf fits {unused}"

    return check
