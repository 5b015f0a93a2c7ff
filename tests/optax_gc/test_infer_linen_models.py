"""`infer_axes` on Linen modules: recurrent, with attention, and with lifted transformations."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from tests.support.fan_ins import (
    ADDED,
    GATHERED,
    MULTIPLIED,
    assert_axes,
    f32,
    i32,
    infer,
    infer_linen,
)

IMAGE = f32(2, 8, 8, 6)
CELL = f32(2, 6), f32(2, 3)
GATES = {
    "lstm": (
        nn.LSTMCell(6),
        {r"i[ifgo]/kernel": (0,), r"h[ifgo]/kernel": (0,), r"h[ifgo]/bias": ADDED},
    ),
    "optimized lstm": (
        nn.OptimizedLSTMCell(6),
        {r"i[ifgo]/kernel": (0,), r"h[ifgo]/kernel": (0,), r"h[ifgo]/bias": ADDED},
    ),
    "gru": (
        nn.GRUCell(6),
        {r"i[rzn]/kernel": (0,), r"h[rzn]/kernel": (0,), r"(i[rzn]|hn)/bias": ADDED},
    ),
    "mgu": (
        nn.MGUCell(6),
        {r"i[fn]/kernel": (0,), r"h[fn]/kernel": (0,), r"(i[fn]|hn)/bias": ADDED},
    ),
    "simple": (nn.SimpleCell(6), {r"[ih]/kernel": (0,), r"i/bias": ADDED}),
}


@pytest.mark.parametrize("name", GATES)
def test_recurrent_cell(name):
    cell, table = GATES[name]
    h, x = CELL
    carry = (h, h) if "lstm" in name else h
    assert_axes(infer_linen(cell, carry, x), table)


@pytest.mark.parametrize("name", GATES)
def test_rnn_axes(name):
    """The cell is scanned over time, from a carry of zeros."""
    cell, table = GATES[name]
    found = infer_linen(nn.RNN(cell), f32(2, 5, 3))
    assert_axes(found, {f"cell/(?:{pattern})": axes for pattern, axes in table.items()})


def test_bidirectional_rnn():
    both = nn.Bidirectional(nn.RNN(nn.GRUCell(6)), nn.RNN(nn.GRUCell(6)))
    assert_axes(
        infer_linen(both, f32(2, 5, 3)),
        {r".*/kernel": (0,), r".*/bias": ADDED},
    )


def test_conv_lstm():
    h = f32(2, 8, 8, 4)
    found = infer_linen(nn.ConvLSTMCell(4, (3, 3)), (h, h), IMAGE)
    assert_axes(found, {r"(ih|hh)/kernel": (0, 1, 2), r"(ih|hh)/bias": ADDED})


ATTENTION = {
    "(query|key|value)/kernel": (0,),  # (d, heads, head_dim)
    "(query|key|value)/bias": ADDED,
    "out/kernel": (0, 1),  # (heads, head_dim, d)
    "out/bias": ADDED,
}


def test_self_attention():
    module = nn.MultiHeadDotProductAttention(num_heads=2, dropout_rate=0.1, deterministic=False)
    assert_axes(infer_linen(module, f32(2, 5, 8)), ATTENTION)


def test_cross_attention_with_normalization():
    module = nn.MultiHeadDotProductAttention(num_heads=2, normalize_qk=True)
    assert_axes(
        infer_linen(module, f32(2, 5, 8), f32(2, 7, 6)),
        {**ATTENTION, "(query|key)_ln/scale": MULTIPLIED},
    )


class Pooled(nn.Module):
    """Attention pooling with a learned query."""

    @nn.compact
    def __call__(self, x):
        probe = self.param("probe", nn.initializers.ones, (1, 1, 8))
        probe = jnp.tile(probe, (x.shape[0], 1, 1))
        return nn.MultiHeadDotProductAttention(num_heads=2)(nn.LayerNorm()(probe), x)


def test_attention_pooling():
    """The query kernel has its usual axes, although no data reach it."""
    for batch, probe in ((1, "only used as an input"), (2, MULTIPLIED)):
        assert_axes(
            infer_linen(Pooled(), f32(batch, 5, 8)),
            {
                "probe": probe,  # if it is tiled, the scale of the norm multiplies it
                "LayerNorm_0/scale": MULTIPLIED,
                "LayerNorm_0/bias": ADDED,
                **{f"MultiHeadDotProductAttention_0/{k}": v for k, v in ATTENTION.items()},
            },
        )


class Tied(nn.Module):
    """An embedding whose table is also the output layer."""

    attend: bool = True

    @nn.compact
    def __call__(self, tokens):
        table = nn.Embed(11, 6)
        position = self.param("position", nn.initializers.ones, (5, 6))
        h = nn.LayerNorm()(table(tokens) + position[None])
        h = nn.Dense(6)(h)
        return table.attend(h) if self.attend else nn.Dense(11)(h)


@pytest.mark.parametrize("attend", [False, True])
def test_tied_embedding(attend):
    found = infer_linen(Tied(attend), i32(2, 5))
    assert found == {
        "Embed_0/embedding": (1,) if attend else GATHERED,
        "position": ADDED,
        "LayerNorm_0/scale": MULTIPLIED,
        "LayerNorm_0/bias": ADDED,
        "Dense_0/kernel": (0,),
        "Dense_0/bias": ADDED,
    } | ({} if attend else {"Dense_1/kernel": (0,), "Dense_1/bias": ADDED})


class Block(nn.Module):
    """A transformer block with the signature that `nn.scan` needs."""

    @nn.compact
    def __call__(self, x, _):
        x = x + nn.MultiHeadDotProductAttention(num_heads=2, name="attention")(nn.LayerNorm()(x))
        h = nn.Dense(16)(nn.LayerNorm()(x))
        return x + nn.Dense(8)(nn.gelu(h)), None


class Transformer(nn.Module):
    """Four scanned blocks between an embedding and a tied output layer."""

    remat: bool = False

    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(11, 8)
        x = embed(tokens) + self.param("position", nn.initializers.ones, (1, 5, 8))
        block = nn.remat(Block, prevent_cse=False) if self.remat else Block
        layers = nn.scan(block, {"params": 0}, split_rngs={"params": True}, length=4)
        x, _ = layers(name="layers")(x, None)
        return embed.attend(nn.LayerNorm()(x))


SCANNED = {
    "Embed_0/embedding": (1,),
    "position": ADDED,
    "LayerNorm_0/scale": MULTIPLIED,
    "LayerNorm_0/bias": ADDED,
    r"layers/LayerNorm_[01]/scale": MULTIPLIED,
    r"layers/LayerNorm_[01]/bias": ADDED,
    r"layers/attention/(query|key|value)/kernel": (1,),  # (layer, d, heads, head_dim)
    r"layers/attention/(query|key|value)/bias": ADDED,
    r"layers/attention/out/kernel": (1, 2),  # (layer, heads, head_dim, d)
    r"layers/attention/out/bias": ADDED,
    r"layers/Dense_[01]/kernel": (1,),
    r"layers/Dense_[01]/bias": ADDED,
}


@pytest.mark.parametrize("remat", [False, True])
def test_scanned_transformer(remat):
    assert_axes(infer_linen(Transformer(remat), i32(2, 5)), SCANNED)


def test_loss_of_scanned_transformer():
    """A loss in bfloat16 that includes weight decay."""
    module = Transformer(remat=True)
    tokens = i32(2, 5)
    params = jax.eval_shape(module.init, jax.random.key(0), tokens)["params"]

    @jax.jit
    def loss(params, tokens):
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
        logits = module.apply({"params": params}, tokens).astype(jnp.float32)
        log_likelihoods = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[..., None], -1)
        decay = sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(params))
        return -log_likelihoods.mean() + decay

    assert_axes(infer(loss, params, tokens), SCANNED)


def test_vmapped_layer():
    """In an ensemble, the axis of members is a batch axis."""

    class Ensemble(nn.Module):
        @nn.compact
        def __call__(self, x):
            member = functools.partial(nn.vmap, variable_axes={"params": 0}, in_axes=None)
            member = functools.partial(member, split_rngs={"params": True}, axis_size=3)
            h = member(nn.Conv)(4, (3, 3), name="conv")(x)
            return nn.vmap(nn.Dense, {"params": 1}, split_rngs={"params": True})(5, name="dense")(h)

    assert infer_linen(Ensemble(), IMAGE) == {
        "conv/kernel": (1, 2, 3),  # (member, h, w, in, out)
        "conv/bias": ADDED,
        "dense/kernel": (0,),  # (in, member, out)
        "dense/bias": ADDED,
    }


def test_shared_layer():
    """One kernel is used twice, once inside remat."""

    class Shared(nn.Module):
        @nn.compact
        def __call__(self, x):
            dense = nn.Dense(3)
            return nn.remat(lambda module, x: module(x))(dense, nn.tanh(dense(x)))

    assert infer_linen(Shared(), f32(2, 3)) == {"Dense_0/kernel": (0,), "Dense_0/bias": ADDED}
