"""`infer_axes` on NNX layers and models."""

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import optax_gc
from tests.support.fan_ins import ADDED, GATHERED, MULTIPLIED, assert_axes, f32, i32, infer


def infer_nnx(make, *args, kinds=nnx.Param):
    """Return the axes of the variables of the given kinds. Other variables are arguments."""
    graph, params, rest = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))), kinds, ...)

    def apply(params, rest, *args):
        return nnx.merge(graph, params, rest)(*args)

    return infer(apply, params, rest, *args)


IMAGE = f32(2, 8, 8, 6)
LAYERS = {
    "linear": (lambda rngs: nnx.Linear(3, 5, rngs=rngs), f32(2, 3), (0,)),
    "conv 1-D": (lambda rngs: nnx.Conv(6, 5, (3,), rngs=rngs), f32(2, 8, 6), (0, 1)),
    "conv 2-D": (lambda rngs: nnx.Conv(6, 5, (3, 3), rngs=rngs), IMAGE, (0, 1, 2)),
    "conv 3-D": (
        lambda rngs: nnx.Conv(6, 5, (3, 3, 3), rngs=rngs),
        f32(2, 4, 4, 4, 6),
        (0, 1, 2, 3),
    ),
    "conv, grouped": (
        lambda rngs: nnx.Conv(6, 4, (3, 3), feature_group_count=2, rngs=rngs),
        IMAGE,
        (0, 1, 2),
    ),
    "conv, depthwise": (
        lambda rngs: nnx.Conv(6, 6, (3, 3), feature_group_count=6, rngs=rngs),
        IMAGE,
        (0, 1, 2),
    ),
    "conv transpose, kernel (h, w, in, out)": (
        lambda rngs: nnx.ConvTranspose(6, 5, (3, 3), strides=(2, 2), rngs=rngs),
        IMAGE,
        (0, 1, 2),
    ),
    "conv transpose, kernel (h, w, out, in)": (
        lambda rngs: nnx.ConvTranspose(6, 5, (3, 3), transpose_kernel=True, rngs=rngs),
        IMAGE,
        (0, 1, 3),
    ),
    "linear general, several out": (
        lambda rngs: nnx.LinearGeneral(3, (4, 5), rngs=rngs),
        f32(2, 3),
        (0,),
    ),
    "linear general, several in": (
        lambda rngs: nnx.LinearGeneral((3, 4), 5, axis=(-2, -1), rngs=rngs),
        f32(2, 3, 4),
        (0, 1),
    ),
    "einsum": (
        lambda rngs: nnx.Einsum("bd,hdk->bhk", (4, 3, 5), (4, 5), rngs=rngs),
        f32(2, 3),
        (1,),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_axes(name):
    make, x, kernel = LAYERS[name]
    assert infer_nnx(make, x) == {"kernel": kernel, "bias": ADDED}


def test_norm_layers():
    assert infer_nnx(lambda rngs: nnx.BatchNorm(6, rngs=rngs), IMAGE) == {
        "scale": MULTIPLIED,
        "bias": ADDED,
    }
    assert infer_nnx(lambda rngs: nnx.RMSNorm(6, rngs=rngs), IMAGE) == {"scale": MULTIPLIED}


def test_running_statistics_as_params():
    make = lambda rngs: nnx.BatchNorm(6, use_running_average=True, rngs=rngs)  # noqa: E731
    found = infer_nnx(make, IMAGE, kinds=(nnx.Param, nnx.BatchStat))
    assert found == {"scale": MULTIPLIED, "bias": ADDED, "mean": ADDED, "var": MULTIPLIED}


@pytest.mark.parametrize("make", [nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell, nnx.SimpleCell])
def test_recurrent_cells(make):
    """Check one step and a scan over time. Fused cells have one kernel for all gates."""
    table = {r"(?:cell/)?\w+/kernel": (0,), r"(?:cell/)?\w+/bias": ADDED}
    h = f32(2, 6)
    carry = (h, h) if "LSTM" in make.__name__ else h
    assert_axes(infer_nnx(lambda rngs: make(3, 6, rngs=rngs), carry, f32(2, 3)), table)
    rnn = lambda rngs: nnx.RNN(make(3, 6, rngs=rngs), rngs=rngs)  # noqa: E731
    assert_axes(infer_nnx(rnn, f32(2, 5, 3)), table)


def test_self_and_cross_attention():
    table = {
        "(query|key|value)/kernel": (0,),  # (d, heads, head_dim)
        "(query|key|value)/bias": ADDED,
        "out/kernel": (0, 1),  # (heads, head_dim, d)
        "out/bias": ADDED,
    }

    def make(rngs, **kwargs):
        return nnx.MultiHeadAttention(2, 8, 8, decode=False, rngs=rngs, **kwargs)

    assert_axes(infer_nnx(make, f32(2, 5, 8)), table)
    cross = lambda rngs: make(rngs, in_kv_features=6)  # noqa: E731
    assert_axes(infer_nnx(cross, f32(2, 5, 8), f32(2, 7, 6)), table)


class Tied(nnx.Module):
    def __init__(self, attend, rngs):
        self.embed = nnx.Embed(11, 6, rngs=rngs)
        self.linear = nnx.Linear(6, 6, rngs=rngs)
        self.attend = attend

    def __call__(self, tokens):
        h = self.linear(self.embed(tokens))
        return self.embed.attend(h) if self.attend else h


@pytest.mark.parametrize(("attend", "table"), [(False, GATHERED), (True, (1,))])
def test_embedding_axes(attend, table):
    tokens = i32(2, 5)
    assert infer_nnx(lambda rngs: Tied(attend, rngs), tokens) == {
        "embed/embedding": table,
        "linear/kernel": (0,),
        "linear/bias": ADDED,
    }


def test_lora_layers():
    """Check `x @ a @ b` alone and next to a kernel that may be frozen."""
    kinds = (nnx.Param, nnx.LoRAParam)
    x = f32(2, 3)
    found = infer_nnx(lambda rngs: nnx.LoRA(3, 2, 5, rngs=rngs), x, kinds=kinds)
    assert found == {"lora_a": (0,), "lora_b": (0,)}
    linear = lambda rngs: nnx.LoRALinear(3, 5, lora_rank=2, rngs=rngs)  # noqa: E731
    expected = {"lora/lora_a": (0,), "lora/lora_b": (0,), "kernel": (0,), "bias": ADDED}
    assert infer_nnx(linear, x, kinds=kinds) == expected
    adapters = {path: axes for path, axes in expected.items() if "lora" in path}
    assert infer_nnx(linear, x, kinds=nnx.LoRAParam) == adapters


@pytest.mark.skipif(not hasattr(nnx, "WeightNorm"), reason="this Flax has no nnx.WeightNorm")
def test_weight_norm():
    """Some Flax versions do not keep the scale in the state."""
    inner = nnx.Linear(3, 5, rngs=nnx.Rngs(0))
    graph, params = nnx.split(nnx.WeightNorm(inner, rngs=nnx.Rngs(0)))
    found = infer(lambda params, x: nnx.merge(graph, params)(x), params, f32(2, 3))
    scales = {path: MULTIPLIED for path in found if "scale" in path}
    assert found == {"layer_instance/kernel": (0,), "layer_instance/bias": ADDED, **scales}


@pytest.mark.skipif(not hasattr(nnx, "SpectralNorm"), reason="this Flax has no nnx.SpectralNorm")
@pytest.mark.parametrize("update_stats", [False, True])
def test_spectral_norm(update_stats):
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.SpectralNorm(nnx.Conv(6, 5, (3, 3), rngs=rngs), rngs=rngs)

        def __call__(self, x):
            return self.norm(x, update_stats=update_stats)

    found = infer_nnx(Model, IMAGE)
    assert found == {"norm/layer_instance/kernel": (0, 1, 2), "norm/layer_instance/bias": ADDED}


class Block(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.up, self.down = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 8, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.down(nnx.gelu(self.up(x)))


class Transformer(nnx.Module):
    """Four blocks that are created by vmap and run by scan, with remat."""

    def __init__(self, rngs):
        self.blocks = nnx.split_rngs(splits=4)(nnx.vmap(Block))(rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        @nnx.remat
        def layer(x, block):
            return block(x)

        return layer(x, self.blocks)


TRANSFORMER = {
    "blocks/norm/scale": MULTIPLIED,
    "blocks/norm/bias": ADDED,
    "blocks/attention/(query|key|value)/kernel": (1,),  # (layer, d, heads, head_dim)
    "blocks/attention/(query|key|value)/bias": ADDED,
    "blocks/attention/out/kernel": (1, 2),  # (layer, heads, head_dim, d)
    "blocks/attention/out/bias": ADDED,
    "blocks/(up|down)/kernel": (1,),
    "blocks/(up|down)/bias": ADDED,
}


def test_scanned_transformer():
    assert_axes(infer_nnx(Transformer, f32(2, 5, 8)), TRANSFORMER)


def test_axes_fit_nnx_state():
    model = nnx.Linear(3, 5, rngs=nnx.Rngs(0))
    graph, params = nnx.split(model)
    x = jnp.ones((2, 3))
    axes = optax_gc.infer_axes(lambda params, x: nnx.merge(graph, params)(x), params, x)
    grads = jax.tree.map(lambda leaf: leaf + 1, params)
    tx = optax.chain(optax_gc.centralize(axes), optax.scale(-1.0))
    updates, _ = tx.update(grads, tx.init(params))
    assert jnp.abs(updates["kernel"][...].mean(0)).max() < 1e-6


@pytest.mark.slow
def test_axes_of_whole_module():
    """The module has batch statistics and random states that its optimizer does not have."""

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(4, rngs=rngs)
            self.dropout = nnx.Dropout(0.1, rngs=rngs)
            self.out = nnx.Linear(4, 5, rngs=rngs)

        def __call__(self, x):
            return self.out(self.dropout(self.norm(self.conv(x))).mean((1, 2)))

    net, images = Net(nnx.Rngs(0)), jnp.ones((2, 8, 8, 3))
    axes = optax_gc.infer_axes(lambda net, images: net(images), net, images)
    before = net.conv.kernel[...]
    tx = optax.chain(optax_gc.centralize(axes), optax.sgd(0.1))
    optimizer = nnx.Optimizer(net, tx, wrt=nnx.Param)
    optimizer.update(net, nnx.grad(lambda net: (net(images) ** 2).sum())(net))
    change = net.conv.kernel[...] - before
    assert jnp.abs(change).max() > 1e-4
    assert jnp.abs(change.mean((0, 1, 2))).max() < 1e-7
