"""`FanIn`, and the rules on the parameters of Flax, Haiku and Equinox."""

import dataclasses

import chex
import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

import optax_gc
from optax_gc import FanIn
from optax_gc._plan import path_name
from tests.support.fan_ins import f32, i32


def _axes(params, rule=optax_gc.by_name):
    """Return `{path: fan-in axes}`, with `()` for leaves that are left alone."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return {path_name(path): rule(path, leaf).axes for path, leaf in leaves}


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


# by_name, on the parameters of each library


class _Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=2, name="attention")(y, y)
        return x, None


class _Transformer(nn.Module):
    @nn.compact
    def __call__(self, images, ids):
        x = nn.Conv(8, (4, 4), (4, 4), name="patches")(images).reshape(len(images), -1, 8)
        token = self.param("cls", nn.initializers.zeros, (1, 1, 8))
        x = jnp.concatenate([jnp.tile(token, (len(x), 1, 1)), x], 1)
        x = x + self.param("pos_embedding", nn.initializers.zeros, (1, x.shape[1], 8))
        x = x + nn.Embed(11, 8, name="words")(ids)[:, None]
        x, _ = _Block(name="block")(x, None)
        stack = nn.scan(_Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        x, _ = stack(name="stack")(x, None)
        x = nn.GroupNorm(2, name="norm")(x)
        return nn.Dense(4, name="head")(x)


def test_by_name_on_linen():
    params = jax.eval_shape(_Transformer().init, jax.random.key(0), f32(2, 8, 8, 3), i32(2))[
        "params"
    ]
    axes = _axes(params)
    centralized = {path: axes for path, axes in axes.items() if axes}
    assert centralized == {
        "patches/kernel": (0, 1, 2),
        "block/attention/query/kernel": (0,),
        "block/attention/key/kernel": (0,),
        "block/attention/value/kernel": (0,),
        "block/attention/out/kernel": (0, 1),
        "stack/attention/query/kernel": (1,),  # (layers, d, heads, head_dim)
        "stack/attention/key/kernel": (1,),
        "stack/attention/value/kernel": (1,),
        "stack/attention/out/kernel": (0, 1, 2),  # the name does not show the axis of layers
        "head/kernel": (0,),
    }
    shapes = {
        path_name(path): leaf.shape
        for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
    }
    assert shapes["block/attention/query/bias"] == (2, 4)
    assert shapes["stack/LayerNorm_0/scale"] == (3, 8)
    assert shapes["cls"] == (1, 1, 8)
    assert shapes["words/embedding"] == (11, 8)


class _Nnx(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.words = nnx.Embed(11, 8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.cls = nnx.Param(jnp.zeros((1, 1, 8)))
        self.head = nnx.LoRALinear(8, 4, lora_rank=2, rngs=rngs)


@pytest.mark.parametrize("is_pure", [False, True], ids=["State", "pure dict"])
def test_by_name_on_nnx(is_pure):
    state = nnx.state(_Nnx(nnx.Rngs(0)))
    axes = _axes(nnx.to_pure_dict(state) if is_pure else state)
    centralized = {path.removesuffix("/value"): axes for path, axes in axes.items() if axes}
    assert centralized == {
        "conv/kernel": (0, 1, 2),
        "attention/query/kernel": (0,),
        "attention/key/kernel": (0,),
        "attention/value/kernel": (0,),
        "attention/out/kernel": (0, 1),
        "head/kernel": (0,),
        "head/lora/lora_a": (0,),
        "head/lora/lora_b": (0,),
    }


def test_by_name_on_haiku():
    def forward(images, ids):
        x = hk.Flatten()(hk.LayerNorm(-1, True, True)(hk.Conv2D(8, 3)(images)))
        x = hk.Linear(8)(x) + hk.Embed(11, 8)(ids)
        x = x + hk.get_parameter("cls", (1, 8), init=jnp.zeros)
        x = x[:, None]
        x = hk.MultiHeadAttention(2, 4, w_init=hk.initializers.VarianceScaling())(x, x, x)[:, 0]
        lstm = hk.LSTM(8)
        x, _ = lstm(x, lstm.initial_state(2))
        return hk.Bias(bias_dims=[-1])(x)

    params = jax.eval_shape(
        hk.transform(forward).init,
        jax.random.key(0),
        f32(2, 8, 8, 3),
        i32(2),
    )
    centralized = {path: axes for path, axes in _axes(params).items() if axes}
    assert centralized == {
        "conv2_d/w": (0, 1, 2),
        "linear/w": (0,),
        "multi_head_attention/query/w": (0,),
        "multi_head_attention/key/w": (0,),
        "multi_head_attention/value/w": (0,),
        "multi_head_attention/linear/w": (0,),
        "lstm/linear/w": (0,),
    }


class _Equinox(eqx.Module):
    mlp: eqx.nn.MLP
    conv: eqx.nn.Conv2d
    gru: eqx.nn.GRUCell
    attention: eqx.nn.MultiheadAttention
    embedding: eqx.nn.Embedding
    norm: eqx.nn.LayerNorm
    cls_token: jax.Array

    def __init__(self, key):
        self.mlp = eqx.nn.MLP(4, 3, 8, 1, key=key)
        self.conv = eqx.nn.Conv2d(3, 8, 3, key=key)  # its bias has the shape (8, 1, 1)
        self.gru = eqx.nn.GRUCell(4, 8, key=key)
        self.attention = eqx.nn.MultiheadAttention(2, 8, key=key)
        self.embedding = eqx.nn.Embedding(11, 8, key=key)
        self.norm = eqx.nn.LayerNorm(8)
        self.cls_token = jnp.zeros((1, 1, 8))


def test_by_name_on_equinox():
    model = eqx.filter(eqx.filter_eval_shape(_Equinox, jax.random.key(0)), _is_shape)
    centralized = {path: axes for path, axes in _axes(model).items() if axes}
    assert centralized == {
        "mlp/layers/0/weight": (1,),
        "mlp/layers/1/weight": (1,),
        "conv/weight": (1, 2, 3),
        "gru/weight_ih": (1,),
        "gru/weight_hh": (1,),
        "attention/query_proj/weight": (1,),
        "attention/key_proj/weight": (1,),
        "attention/value_proj/weight": (1,),
        "attention/output_proj/weight": (1,),
    }


def _is_shape(leaf):
    return isinstance(leaf, jax.ShapeDtypeStruct)


@pytest.mark.parametrize(
    "name", ["anything", "W", "in_proj", "lora_a", "lora_b"], ids=lambda name: name
)
def test_by_name_unknown_matrix(name):
    assert _axes({name: f32(4, 5), "b": f32(5)}) == {name: (0,), "b": ()}


@pytest.mark.parametrize(
    "name",
    [
        "bias",
        "b",
        "scale",
        "offset",
        "gamma",
        "beta",
        "b1_b",
        "b_ih",
        "bias_hh",
        "q_bias",
        "embedding",
        "embed",
        "wpe_embedding",
        "token_table",
        "position_embeddings",
        "pos",
        "cls",
        "cls_token",
    ],
)
def test_by_name_without_fan_in(name):
    assert _axes({name: f32(4, 5)}) == {name: ()}


@pytest.mark.parametrize("layer", ["wte", "wpe", "tok_embeddings", "emb", "shared", "pos_emb"])
@pytest.mark.parametrize("separator", [".", "/"])
def test_by_name_embedding_weights(layer, separator):
    path = separator.join(["model", layer, "weight"])
    assert _axes({path: f32(50, 8)}) == {path: ()}


_JOINED_NAMES = {
    ("conv1", "weight"): ((16, 3, 3, 3), (1, 2, 3)),
    ("encoder", "conv", "kernel"): ((3, 3, 8, 16), (0, 1, 2)),
    ("block", "attn", "query", "kernel"): ((64, 4, 16), (0,)),
    ("block", "attn", "out", "kernel"): ((4, 16, 64), (0, 1)),
    ("attn", "query", "bias"): ((4, 16), ()),
    ("norm", "scale"): ((4, 16), ()),
    ("layers", "0", "mlp", "weight"): ((4, 5), (1,)),
    ("layers", "0", "token_embedding", "weight"): ((50, 8), ()),
}


@pytest.mark.parametrize("names", _JOINED_NAMES, ids="/".join)
def test_by_name_joined_names(names):
    """However the path joins the names, the axes are the same."""
    shape, expected = _JOINED_NAMES[names]
    leaf = f32(*shape)
    nested = leaf
    for name in reversed(names):
        nested = {name: nested}
    for params in (nested, {".".join(names): leaf}, {"/".join(names): leaf}, {names: leaf}):
        ((path, _),) = jax.tree_util.tree_flatten_with_path(params)[0]
        assert optax_gc.by_name(path, leaf).axes == expected, params


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"layers": [{"weight": f32(4, 5)}]}, (1,)),
        ({"kernel": [f32(4, 5)]}, (0,)),
        ({("layers", 0, "weight"): f32(4, 5)}, (1,)),
        ({"query/kernel": [f32(64, 4, 16)]}, (0,)),
        ({"bias": (f32(4, 5),)}, ()),
    ],
)
def test_by_name_list_indices(params, expected):
    ((path, leaf),) = jax.tree_util.tree_flatten_with_path(params)[0]
    assert optax_gc.by_name(path, leaf).axes == expected


def test_by_name_notes():
    paths_and_leaves, _ = jax.tree_util.tree_flatten_with_path(
        {"bias": f32(2, 4), "kernel": f32(8)}
    )
    notes = [optax_gc.by_name(path, leaf).note for path, leaf in paths_and_leaves]
    assert notes == ["bias", "fewer than two axes"]


def test_by_name_single_array():
    assert optax_gc.by_name((), f32(4, 5)) == FanIn((0,))
