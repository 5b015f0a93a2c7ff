"""`by_name` on the parameters of Flax, Haiku, Equinox, Keras and Hugging Face."""

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import optax_gc
from optax_gc import FanIn
from optax_gc._plan import path_name
from tests.support.fan_ins import f32, i32


def _axes(params, rule=optax_gc.by_name):
    """Return `{path: fan-in axes}`, with `()` for leaves that are left alone."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return {path_name(path): rule(path, leaf).axes for path, leaf in leaves}


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


@pytest.mark.parametrize(
    ("path", "shape", "expected"),
    [
        ("depthwise_conv2d/kernel", (3, 3, 8, 2), (0, 1)),
        ("separable_conv2d/depthwise_kernel", (3, 3, 8, 2), (0, 1)),
        ("separable_conv2d/pointwise_kernel", (1, 1, 16, 5), (0, 1, 2)),
        ("depthwise/kernel", (3, 3, 1, 16), (0, 1)),
        ("depthwise/weight", (16, 1, 3, 3), (1, 2, 3)),
        ("attention/to_q/kernel", (64, 4, 16), (0,)),
        ("attention/to_k/kernel", (64, 64), (0,)),
        ("attention/v_proj/kernel", (64, 4, 16), (0,)),
        ("attention/o_proj/kernel", (4, 16, 64), (0, 1)),
        ("h/0/attn/c_attn/kernel", (192, 64), (1,)),
        ("h/0/attn/c_attn/kernel", (64, 192), (0,)),
        ("h/0/mlp/c_fc/kernel", (256, 64), (1,)),
        ("h/0/mlp/c_proj/kernel", (64, 256), (1,)),
        ("h/0/mlp/c_proj/kernel", (256, 64), (0,)),
        ("h/0/attn/c_proj/kernel", (64, 64), ()),
        ("h/0/attn/c_proj/weight", (64, 64), (1,)),
        ("net/__layer_stack_no_per_layer/linear/w", (12, 64, 32), (1,)),
        ("net/__layer_stack_no_per_layer/linear/b", (12, 32), ()),
        ("dense/lora_kernel_a", (64, 4), (0,)),
        ("dense/lora_kernel_b", (4, 32), (0,)),
    ],
)
def test_by_name_conventions(path, shape, expected):
    leaf = f32(*shape)
    assert optax_gc.by_name((jax.tree_util.DictKey(path),), leaf).axes == expected


def test_by_name_notes_a_guess():
    """Three axes under an unknown layer have several meanings."""
    path = (jax.tree_util.DictKey("mixer/kernel"),)
    assert optax_gc.by_name(path, f32(4, 5, 6)).note.startswith("by its shape")
    path = (jax.tree_util.DictKey("conv_3/kernel"),)
    assert not optax_gc.by_name(path, f32(4, 5, 6)).note


@pytest.mark.parametrize("params", [[f32(4, 5), f32(5)], [(f32(5, 4), f32(5))], {"": f32(4, 5)}])
def test_by_name_needs_names(params):
    """Lists of arrays, such as Keras variables, have no names and no known layout."""
    with pytest.raises(ValueError, match=r"by_name needs names.*\(., .\).*infer_axes"):
        optax_gc.centralize().init(params)
    optax_gc.centralize(optax_gc.last_axis_out).init(params)
    optax_gc.centralize().init([f32(5), f32()])
