"""`FanIn`, and the rules on the parameters of Flax, Haiku and Equinox."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

import optax_gc
from optax_gc import FanIn
from tests.support.fan_ins import f32

# FanIn


def test_repr_omits_defaults():
    assert repr(FanIn((0, 1))) == "FanIn((0, 1))"
    assert repr(FanIn(())) == "FanIn(())"
    shown = repr(FanIn((0,), "dot_general", "tied", ("model",)))
    assert shown == "FanIn((0,), op='dot_general', note='tied', mesh_axes=('model',))"


def test_equality_ignores_note():
    assert FanIn((0,), note="one") == FanIn((0,), note="another")
    assert hash(FanIn((0,), note="one")) == hash(FanIn((0,)))
    assert FanIn((0,)) != FanIn((1,))
    assert FanIn((0,)) != FanIn((0,), op="dot_general")
    assert FanIn((0,)) != FanIn((0,), mesh_axes=("model",))


def test_axes_become_tuples():
    assert FanIn([0, 1]).axes == (0, 1)
    assert FanIn(jnp.arange(2)).axes == (0, 1)
    assert FanIn((0,), mesh_axes="model").mesh_axes == ("model",)


def test_frozen_pytree_leaf():
    assert jax.tree.leaves({"w": FanIn((0,))}) == [FanIn((0,))]
    with pytest.raises(dataclasses.FrozenInstanceError):
        FanIn((0,)).axes = (1,)


@pytest.mark.parametrize("axes", [0, None, (0.5,), "ab", ((0,),)])
def test_axes_must_be_integers(axes):
    with pytest.raises(TypeError, match="FanIn takes a tuple of integers, got"):
        FanIn(axes)


def test_repeated_axis():
    with pytest.raises(ValueError, match=r"FanIn names an axis twice: \(0, 0\)"):
        FanIn((0, 0))


@pytest.mark.parametrize(
    ("axes", "spec", "mesh_axes"),
    [
        ((0,), P("model", None), ("model",)),
        ((0,), P(None, "model"), ()),
        ((0, 1), P("x", "y"), ("x", "y")),
        ((0, 1), P(("x", "y")), ("x", "y")),
        ((2,), P("x"), ()),
        ((0,), P(), ()),
        ((), P("x", "y"), ()),
    ],
)
def test_sharded_sets_mesh_axes(axes, spec, mesh_axes):
    fan_in = FanIn(axes, "dot_general", "a note")
    assert fan_in.sharded(spec) == dataclasses.replace(fan_in, mesh_axes=mesh_axes)


def test_sharded_needs_non_negative_axes():
    with pytest.raises(ValueError, match="counts axes from the end"):
        FanIn((-2,)).sharded(P("model", None))


# Rules by position


@pytest.mark.parametrize(
    ("rule", "conv", "dense", "vector", "scalar"),
    [
        (optax_gc.last_axis_out, (0, 1, 2), (0,), (), ()),
        (optax_gc.first_axis_out, (1, 2, 3), (1,), (), ()),
        (optax_gc.whole_tensor, (0, 1, 2, 3), (0, 1), (), ()),
    ],
)
def test_rules_by_position(rule, conv, dense, vector, scalar):
    shapes = [(3, 3, 4, 8), (4, 8), (8,), ()]
    assert [rule((), f32(*shape)).axes for shape in shapes] == [conv, dense, vector, scalar]


def test_transposed_layouts_agree():
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 4, 8))
    last_out, _ = optax_gc.centralize(optax_gc.last_axis_out).update(kernel, None)
    first_out, _ = optax_gc.centralize(optax_gc.first_axis_out).update(
        jnp.transpose(kernel, (3, 2, 0, 1)), None
    )
    chex.assert_trees_all_close(jnp.transpose(first_out, (2, 3, 1, 0)), last_out, atol=1e-6)
