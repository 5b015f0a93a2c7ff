"""How type checkers see the library. mypy and pyright check this file; it is not run.

An `ignore` that is not needed is an error, so each one is a test that the line is wrong.
"""

from typing import assert_type

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import optax_gc
from optax_gc import FanIn

x = jnp.ones((3, 4))
kernel = jnp.ones((4, 5))

# infer_axes returns what it is given, with FanIn leaves.
tree = optax_gc.infer_axes(lambda params, x: x @ params["kernel"], {"kernel": kernel}, x)
fan_in: FanIn = tree["kernel"]
assert_type(optax_gc.infer_axes(lambda kernel, x: x @ kernel, kernel, x), FanIn)
shape = jax.ShapeDtypeStruct((4, 5), jnp.float32)
assert_type(optax_gc.infer_axes(lambda kernel, x: x @ kernel, shape, x).axes, tuple[int, ...])
layer = eqx.nn.Linear(3, 4, key=jax.random.key(0))
layer_axes = optax_gc.infer_axes(lambda layer, x: layer(x), layer, jnp.ones(3))
pair_axes = optax_gc.infer_axes(lambda pair, x: x @ pair[0], (kernel, x), x)

# Axes: None, a rule, or a tree of FanIn.
tx: optax.GradientTransformation = optax_gc.centralize()
tx = optax_gc.centralize(tree)
tx = optax_gc.centralize(layer_axes, conv_only=True)
tx = optax_gc.centralize(pair_axes)
tx = optax_gc.centralize(fan_in)
tx = optax_gc.centralize(optax_gc.last_axis_out)
tx = optax_gc.centralize(lambda path, leaf: FanIn((0,)))
tx = optax_gc.centralize("kernel")  # type: ignore[arg-type]
tx = optax_gc.centralize(kernel)  # type: ignore[arg-type]


class ByRank:
    """A rule with a state."""

    def __call__(self, path: optax_gc.KeyPath, leaf: jax.Array) -> FanIn:
        return FanIn(range(leaf.ndim - 1))


rule: optax_gc.Rule = ByRank()
axes: optax_gc.Axes = rule
table: str = optax_gc.explain({"kernel": kernel}, axes)

FanIn([0, 1], mesh_axes="model", out_axes=[2])
FanIn(jnp.arange(2), mesh_axes=["model", "data"])
FanIn(0)  # type: ignore[arg-type]
