"""`infer_axes` on Equinox layers, whose weights are (out, in), and on modules as pytrees."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
import pytest

import optax_gc
from tests.support.fan_ins import (
    ADDED,
    GATHERED,
    MULTIPLIED,
    NOT_FLOATING_POINT,
    assert_axes,
    f32,
    i32,
    infer,
)

KEY = jr.key(0)


def call(model, *args):
    return model(*args)


def call_batched(model, *args):
    return jax.vmap(model)(*args)


def vmap_over_inputs(fn):
    return lambda model, xs: jax.vmap(fn, in_axes=(None, 0))(model, xs)


LAYERS = {
    "linear": (lambda: eqx.nn.Linear(3, 5, key=KEY), (3,), (1,)),
    "conv 1-D": (lambda: eqx.nn.Conv1d(6, 5, 3, key=KEY), (6, 8), (1, 2)),
    "conv 2-D": (lambda: eqx.nn.Conv2d(6, 5, 3, key=KEY), (6, 8, 8), (1, 2, 3)),
    "conv 2-D, grouped": (lambda: eqx.nn.Conv2d(6, 4, 3, groups=2, key=KEY), (6, 8, 8), (1, 2, 3)),
    "conv 3-D": (lambda: eqx.nn.Conv3d(6, 5, 3, key=KEY), (6, 4, 4, 4), (1, 2, 3, 4)),
    "conv transpose": (lambda: eqx.nn.ConvTranspose2d(6, 5, 3, key=KEY), (6, 8, 8), (1, 2, 3)),
    "weight norm": (
        lambda: eqx.nn.WeightNorm(eqx.nn.Linear(3, 5, key=KEY)),
        (3,),
        (1,),
    ),
}


@pytest.mark.parametrize("is_batched", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_layer_axes(name, is_batched):
    make, shape, weight = LAYERS[name]
    x = f32(4, *shape) if is_batched else f32(*shape)
    model = eqx.filter_eval_shape(make)
    table = {r"(layer/)?weight": weight, r"(layer/)?bias": ADDED}
    if name == "weight norm":
        table |= {"g": MULTIPLIED, "_norm": NOT_FLOATING_POINT}
    assert_axes(infer(call_batched if is_batched else call, model, x), table)


def test_mlp_axes():
    """The activation functions are leaves of the module."""
    model = eqx.filter_eval_shape(lambda: eqx.nn.MLP(3, 5, 7, 2, key=KEY))
    expected = {
        r"layers/\d/weight": (1,),
        r"layers/\d/bias": ADDED,
        "activation|final_activation": NOT_FLOATING_POINT,
    }
    assert_axes(infer(call_batched, model, f32(4, 3)), expected)


@pytest.mark.parametrize(
    ("make", "table"),
    [
        (eqx.nn.GRUCell, {"weight_(ih|hh)": (1,), "bias(_n)?": ADDED}),
        (eqx.nn.LSTMCell, {"weight_(ih|hh)": (1,), "bias": ADDED}),
    ],
)
def test_recurrent_cell(make, table):
    """Check one step, a scan over time, and a batch of scans."""
    cell = eqx.filter_eval_shape(lambda: make(3, 6, key=KEY))
    zero = jnp.zeros(6)
    state = (zero, zero) if make is eqx.nn.LSTMCell else zero

    def scanned(cell, xs):
        return jax.lax.scan(lambda h, x: (cell(x, h), None), state, xs)[0]

    assert_axes(infer(lambda cell, x: cell(x, state), cell, f32(3)), table)
    assert_axes(infer(scanned, cell, f32(5, 3)), table)
    assert_axes(infer(vmap_over_inputs(scanned), cell, f32(2, 5, 3)), table)


def test_attention_axes():
    model = eqx.filter_eval_shape(
        lambda: eqx.nn.MultiheadAttention(2, 8, use_query_bias=True, dropout_p=0.1, key=KEY)
    )
    x = f32(5, 8)

    def attend(model, x, key):
        return model(x, x, x, key=key)

    assert_axes(
        infer(attend, model, x, KEY),
        {
            r"(query|key|value|output)_proj/weight": (1,),
            r"query_proj/bias": ADDED,
            r"dropout/(p|inference)": NOT_FLOATING_POINT,
        },
    )


@pytest.mark.parametrize("single", [False, True])
def test_embedding_axes(single):
    """Looking up one token is a dynamic slice; looking up several is a gather."""

    class Model(eqx.Module):
        embed: eqx.nn.Embedding
        norm: eqx.nn.LayerNorm
        out: eqx.nn.Linear

        def __call__(self, token):
            return self.out(self.norm(self.embed(token)))

    def make():
        norm, out = eqx.nn.LayerNorm(6), eqx.nn.Linear(6, 3, key=KEY)
        return Model(eqx.nn.Embedding(11, 6, key=KEY), norm, out)

    model = eqx.filter_eval_shape(make)
    token = i32(*(() if single else (4,)))
    assert infer(call if single else call_batched, model, token) == {
        "embed/weight": GATHERED,
        "norm/weight": MULTIPLIED,
        "norm/bias": ADDED,
        "out/weight": (1,),
        "out/bias": ADDED,
    }


def test_spectral_norm():
    """The state is an argument, so u and v count as data, but sigma only rescales the weight."""
    model, state = eqx.nn.make_with_state(
        lambda: eqx.nn.SpectralNorm(eqx.nn.Linear(3, 5, key=KEY), "weight", key=KEY)
    )()

    def apply(model, state, x):
        return model(x, state)[0]

    with jax.numpy_rank_promotion("allow"):
        found = infer(apply, eqx.filter(model, eqx.is_inexact_array), state, f32(3))
    assert found == {"layer/weight": (1,), "layer/bias": ADDED}


def test_axes_of_module_fit_gradients():
    """In the gradients, the functions of the module are None."""
    model = eqx.nn.MLP(3, 5, 7, 1, key=KEY)
    x = jnp.ones((4, 3))
    axes = optax_gc.infer_axes(call_batched, model, x)
    grads = eqx.filter_grad(lambda model, x: jnp.sum(call_batched(model, x) ** 2))(model, x + 1.0)
    tx = optax.chain(optax_gc.centralize(axes), optax.scale(-1.0))
    updates, _ = tx.update(grads, tx.init(eqx.filter(model, eqx.is_inexact_array)))
    for layer in updates.layers:
        assert jnp.abs(layer.weight.mean(1)).max() < 1e-5
