"""Every leaf of Linen's layers, against axes written down by hand."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

ADDED, MULTIPLIED, GATHERED = "only added", "only multiplied", "only gathered"


def shapes(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def read(infer, module, *args, **kwargs):
    """The params collection alone: other collections are arguments, like the data."""
    init = functools.partial(module.init, **kwargs)
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = jax.eval_shape(init, rngs, *args)

    def apply(params, state, *args):
        rngs = {"dropout": jax.random.key(1)}
        mutable = list(state)
        variables = {"params": params, **state}
        return module.apply(variables, *args, rngs=rngs, mutable=mutable, **kwargs)

    state = {name: variables[name] for name in variables if name != "params"}
    return infer(apply, variables["params"], state, *args)


IMAGE = shapes(2, 8, 8, 6)
LAYERS = {
    "dense": (nn.Dense(5), shapes(4, 3), {"kernel": (0,), "bias": ADDED}),
    "dense on one example": (nn.Dense(5), shapes(3), {"kernel": (0,), "bias": ADDED}),
    "conv 1-D": (nn.Conv(5, (3,)), shapes(2, 8, 6), {"kernel": (0, 1), "bias": ADDED}),
    "conv 2-D": (nn.Conv(5, (3, 3)), IMAGE, {"kernel": (0, 1, 2), "bias": ADDED}),
    "conv 3-D": (
        nn.Conv(5, (3, 3, 3)),
        shapes(2, 8, 8, 8, 6),
        {"kernel": (0, 1, 2, 3), "bias": ADDED},
    ),
    "conv without a batch": (nn.Conv(5, (3,)), shapes(8, 6), {"kernel": (0, 1), "bias": ADDED}),
    "conv, strided and dilated": (
        nn.Conv(5, (3, 3), strides=2, kernel_dilation=2, padding="CIRCULAR"),
        IMAGE,
        {"kernel": (0, 1, 2), "bias": ADDED},
    ),
    "conv, grouped": (
        nn.Conv(4, (3, 3), feature_group_count=2),
        IMAGE,
        {"kernel": (0, 1, 2), "bias": ADDED},
    ),
    "conv, depthwise": (
        nn.Conv(6, (3, 3), feature_group_count=6),
        IMAGE,
        {"kernel": (0, 1, 2), "bias": ADDED},
    ),
    "conv, local": (
        nn.ConvLocal(5, (3, 3), padding="VALID"),
        IMAGE,
        {"kernel": (2,), "bias": ADDED},  # (6, 6, 3 * 3 * 6, 5): a kernel for each place
    ),
    "conv, masked": (
        nn.Conv(5, (3,), mask=jnp.ones((3, 6, 5))),
        shapes(2, 8, 6),
        {"kernel": (0, 1), "bias": ADDED},
    ),
    "conv transpose, kernel (h, w, in, out)": (
        nn.ConvTranspose(5, (3, 3), strides=(2, 2)),
        IMAGE,
        {"kernel": (0, 1, 2), "bias": ADDED},
    ),
    "conv transpose, kernel (h, w, out, in)": (
        nn.ConvTranspose(5, (3, 3), strides=(2, 2), transpose_kernel=True),
        IMAGE,
        {"kernel": (0, 1, 3), "bias": ADDED},
    ),
    "dense general, many out": (
        nn.DenseGeneral((4, 5)),
        shapes(2, 3),
        {"kernel": (0,), "bias": ADDED},
    ),
    "dense general, many in": (
        nn.DenseGeneral(5, axis=(-2, -1)),
        shapes(2, 3, 4),
        {"kernel": (0, 1), "bias": ADDED},
    ),
    "dense general, a batch axis": (
        nn.DenseGeneral(5, batch_dims=(0,)),
        shapes(2, 3, 4),
        {"kernel": (1,), "bias": ADDED},  # (batch, in, out)
    ),
    "einsum": (nn.Einsum((4, 3, 5), "bd,hdk->bhk"), shapes(2, 3), {"kernel": (1,), "bias": ADDED}),
    "einsum, batched": (
        nn.Einsum((4, 3, 5), "bhd,hdk->bhk", use_bias=False),
        shapes(2, 4, 3),
        {"kernel": (1,)},
    ),
    "embedding": (nn.Embed(7, 5), shapes(2, 3, dtype=jnp.int32), {"embedding": GATHERED}),
    "embedding of one token": (nn.Embed(7, 5), shapes(dtype=jnp.int32), {"embedding": GATHERED}),
    "layer norm": (nn.LayerNorm(), shapes(2, 3), {"scale": MULTIPLIED, "bias": ADDED}),
    "rms norm": (nn.RMSNorm(), shapes(2, 3), {"scale": MULTIPLIED}),
    "group norm": (
        nn.GroupNorm(num_groups=2),
        IMAGE,
        {"scale": MULTIPLIED, "bias": ADDED},
    ),
    "batch norm": (
        nn.BatchNorm(use_running_average=False),
        IMAGE,
        {"scale": MULTIPLIED, "bias": ADDED},
    ),
    "prelu": (nn.PReLU(), shapes(2, 3), {"negative_slope": MULTIPLIED}),
    "weight norm": (
        nn.WeightNorm(nn.Dense(5)),
        shapes(2, 3),
        {
            "layer_instance/kernel": (0,),
            "layer_instance/bias": ADDED,
            "layer_instance/kernel/scale": MULTIPLIED,
        },
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(infer, name):
    module, x, expected = LAYERS[name]
    assert read(infer, module, x) == expected


@pytest.mark.parametrize("update_stats", [False, True])
@pytest.mark.parametrize(
    ("layer", "x", "kernel"),
    [
        (nn.Dense(5), shapes(2, 3), (0,)),
        (nn.Conv(5, (3, 3)), IMAGE, (0, 1, 2)),
        (nn.DenseGeneral((4, 5)), shapes(2, 3), (0,)),
        (nn.ConvTranspose(5, (3, 3), transpose_kernel=True), IMAGE, (0, 1, 3)),
    ],
)
def test_spectral_norm(infer, layer, x, kernel, update_stats):
    """The power iteration contracts the kernel on both sides; neither is how the model uses it.

    Where the kernel is flattened to (everything else, last), sigma has it contracted over axes that
    are not the layer's fan-in. Sigma comes back to the kernel, so that does not count; returned
    from the model as a statistic, it would.
    """
    module = nn.SpectralNorm(layer)
    variables = jax.eval_shape(
        functools.partial(module.init, update_stats=update_stats), jax.random.key(0), x
    )

    def apply(params, stats, x):
        y = module.apply(
            {"params": params, "batch_stats": stats},
            x,
            update_stats=update_stats,
            mutable=["batch_stats"],
        )
        return y[0]

    assert infer(apply, variables["params"], variables["batch_stats"], x) == {
        "layer_instance/bias": ADDED,
        "layer_instance/kernel": kernel,
    }


CELL = shapes(2, 6), shapes(2, 3)
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
def test_recurrent_cell(infer, match, name):
    cell, table = GATES[name]
    h, x = CELL
    carry = (h, h) if "lstm" in name else h
    match(read(infer, cell, carry, x), table)


@pytest.mark.parametrize("name", GATES)
def test_rnn(infer, match, name):
    """Scanned over time, with the carry that starts from zeros."""
    cell, table = GATES[name]
    found = read(infer, nn.RNN(cell), shapes(2, 5, 3))
    match(found, {f"cell/(?:{pattern})": axes for pattern, axes in table.items()})


def test_bidirectional_rnn(infer, match):
    both = nn.Bidirectional(nn.RNN(nn.GRUCell(6)), nn.RNN(nn.GRUCell(6)))
    match(
        read(infer, both, shapes(2, 5, 3)),
        {r".*/kernel": (0,), r".*/bias": ADDED},
    )


def test_conv_lstm(infer, match):
    h = shapes(2, 8, 8, 4)
    found = read(infer, nn.ConvLSTMCell(4, (3, 3)), (h, h), IMAGE)
    match(found, {r"(ih|hh)/kernel": (0, 1, 2), r"(ih|hh)/bias": ADDED})


ATTENTION = {
    "(query|key|value)/kernel": (0,),  # (d, heads, head_dim)
    "(query|key|value)/bias": ADDED,
    "out/kernel": (0, 1),  # (heads, head_dim, d)
    "out/bias": ADDED,
}


def test_self_attention(infer, match):
    module = nn.MultiHeadDotProductAttention(num_heads=2, dropout_rate=0.1, deterministic=False)
    match(read(infer, module, shapes(2, 5, 8)), ATTENTION)


def test_cross_attention_with_normalized_queries_and_keys(infer, match):
    module = nn.MultiHeadDotProductAttention(num_heads=2, normalize_qk=True)
    match(
        read(infer, module, shapes(2, 5, 8), shapes(2, 7, 6)),
        {**ATTENTION, "(query|key)_ln/scale": MULTIPLIED},
    )


class Pooled(nn.Module):
    """A learned query that attends to the data."""

    @nn.compact
    def __call__(self, x):
        probe = self.param("probe", nn.initializers.ones, (1, 1, 8))
        probe = jnp.tile(probe, (x.shape[0], 1, 1))
        return nn.MultiHeadDotProductAttention(num_heads=2)(nn.LayerNorm()(probe), x)


def test_attention_pooling(infer, match):
    """No data reaches the query's kernel, yet it and its bias are what they are elsewhere."""
    for batch, why in ((1, "only used as an input"), (2, MULTIPLIED)):
        match(
            read(infer, Pooled(), shapes(batch, 5, 8)),
            {
                "probe": why,  # one that is copied counts as multiplied by the norm's scale
                "LayerNorm_0/scale": MULTIPLIED,
                "LayerNorm_0/bias": ADDED,
                **{f"MultiHeadDotProductAttention_0/{k}": v for k, v in ATTENTION.items()},
            },
        )


class Tied(nn.Module):
    """Embeds tokens, and reads them out with the same table."""

    attend: bool = True

    @nn.compact
    def __call__(self, tokens):
        table = nn.Embed(11, 6)
        position = self.param("position", nn.initializers.ones, (5, 6))
        h = nn.LayerNorm()(table(tokens) + position[None])
        h = nn.Dense(6)(h)
        return table.attend(h) if self.attend else nn.Dense(11)(h)


@pytest.mark.parametrize("attend", [False, True])
def test_tied_embedding(infer, attend):
    found = read(infer, Tied(attend), shapes(2, 5, dtype=jnp.int32))
    assert found == {
        "Embed_0/embedding": (1,) if attend else GATHERED,
        "position": ADDED,
        "LayerNorm_0/scale": MULTIPLIED,
        "LayerNorm_0/bias": ADDED,
        "Dense_0/kernel": (0,),
        "Dense_0/bias": ADDED,
    } | ({} if attend else {"Dense_1/kernel": (0,), "Dense_1/bias": ADDED})


class Block(nn.Module):
    """A transformer block, scannable."""

    @nn.compact
    def __call__(self, x, _):
        x = x + nn.MultiHeadDotProductAttention(num_heads=2, name="attention")(nn.LayerNorm()(x))
        h = nn.Dense(16)(nn.LayerNorm()(x))
        return x + nn.Dense(8)(nn.gelu(h)), None


class Transformer(nn.Module):
    """Four blocks, scanned, between an embedding and a tied readout."""

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
def test_scanned_transformer(infer, match, remat):
    match(read(infer, Transformer(remat), shapes(2, 5, dtype=jnp.int32)), SCANNED)


def test_loss_of_a_scanned_transformer(infer, match):
    """What is differentiated in training: a loss, in bfloat16, with weight decay inside."""
    module = Transformer(remat=True)
    tokens = shapes(2, 5, dtype=jnp.int32)
    params = jax.eval_shape(module.init, jax.random.key(0), tokens)["params"]

    @jax.jit
    def loss(params, tokens):
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
        logits = module.apply({"params": params}, tokens).astype(jnp.float32)
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[..., None], -1)
        decay = sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(params))
        return -picked.mean() + decay

    match(infer(loss, params, tokens), SCANNED)


def test_vmapped_layer(infer):
    """An ensemble: the members' axis is a batch axis."""

    class Ensemble(nn.Module):
        @nn.compact
        def __call__(self, x):
            member = functools.partial(nn.vmap, variable_axes={"params": 0}, in_axes=None)
            member = functools.partial(member, split_rngs={"params": True}, axis_size=3)
            h = member(nn.Conv)(4, (3, 3), name="conv")(x)
            return nn.vmap(nn.Dense, {"params": 1}, split_rngs={"params": True})(5, name="dense")(h)

    assert read(infer, Ensemble(), IMAGE) == {
        "conv/kernel": (1, 2, 3),  # (member, h, w, in, out)
        "conv/bias": ADDED,
        "dense/kernel": (0,),  # (in, member, out)
        "dense/bias": ADDED,
    }


def test_shared_layer(infer):
    """One kernel used twice in the same way, once more through remat."""

    class Shared(nn.Module):
        @nn.compact
        def __call__(self, x):
            dense = nn.Dense(3)
            return nn.remat(lambda module, x: module(x))(dense, nn.tanh(dense(x)))

    assert read(infer, Shared(), shapes(2, 3)) == {"Dense_0/kernel": (0,), "Dense_0/bias": ADDED}
