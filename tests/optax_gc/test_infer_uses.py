"""The use that gives the axes if `infer_axes` finds several uses of a weight."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.fan_ins import ADDED, GATHERED, MULTIPLIED, axes_of, f32, i32, infer

X = f32(4, 6)
W = f32(6, 10)


def test_tied_embedding_with_one_hot():
    """A product with one-hot vectors is a contraction, and conflicts with the output layer."""

    def fn(table, tokens):
        return jax.nn.one_hot(tokens, 11) @ table

    tokens = i32(4)
    assert axes_of(fn, f32(11, 6), tokens) == (0,)
    both = axes_of(lambda table, tokens: fn(table, tokens) @ table.T, f32(11, 6), tokens)
    assert both.startswith("ambiguous")


@pytest.mark.parametrize(
    "between", [lambda x: x, jnp.tanh, lambda x: x - x.mean(-1, keepdims=True)]
)
def test_tied_embedding_with_gather(between):
    """Gathered rows are an input, even without a layer before the output layer."""

    def fn(table, tokens):
        return between(table[tokens]) @ table.T

    assert axes_of(fn, f32(11, 6), i32(4)) == (1,)


def merged(params, x):
    return x @ (params["w"] + 0.5 * params["a"] @ params["b"])


def unmerged(params, x):
    return x @ params["w"] + 0.5 * x @ params["a"] @ params["b"]


LORA = {"a": f32(6, 2), "b": f32(2, 10)}


@pytest.mark.parametrize("fn", [merged, unmerged])
def test_low_rank_adapters(fn):
    """Both forms have the same gradients, and the same axes."""
    expected = {"w": (0,), "a": (0,), "b": (0,)}
    assert infer(fn, LORA | {"w": W}, X) == expected
    transposed = {"w": f32(10, 6), "a": f32(2, 6), "b": f32(10, 2)}

    def torch_fn(params, x):
        return fn({"w": params["w"].T, "a": params["a"].T, "b": params["b"].T}, x)

    assert infer(torch_fn, transposed, X) == {"w": (1,), "a": (1,), "b": (1,)}


@pytest.mark.parametrize("fn", [merged, unmerged])
def test_adapters_of_frozen_weights(fn):
    """A frozen kernel is bound, or an argument."""
    bound = functools.partial(lambda w, params, x: fn(params | {"w": w}, x), jnp.ones((6, 10)))
    assert infer(bound, LORA, X) == {"a": (0,), "b": (0,)}
    frozen = {"w": W, "seed": f32()}
    assert infer(lambda params, rest, x: fn(params | rest, x), LORA, frozen, X) == {
        "a": (0,),
        "b": (0,),
    }


def test_data_contraction_takes_precedence():
    """An orthogonality penalty contracts the other axis of the kernel."""

    def loss(w, x):
        return jnp.sum((w @ w.T - jnp.eye(6)) ** 2) + jnp.sum((x @ w) ** 2)

    assert axes_of(loss, W, X) == (0,)


def test_contraction_without_gradient_is_ignored():
    """The search for the nearest code passes no gradient to the codebook."""

    def quantize(codes, x):
        nearest = jnp.argmin((codes**2).sum(1)[None] - 2 * x @ codes.T, axis=1)
        return codes[nearest]

    assert axes_of(quantize, f32(7, 6), X) == GATHERED
    assert axes_of(lambda w, x: x @ w + jax.lax.stop_gradient(x @ w), W, X) == (0,)
    assert axes_of(lambda w, x: jax.lax.stop_gradient(x @ w), W, X) == (0,)  # the only use
    assert axes_of(lambda w, x: jnp.argmax(x @ w), W, X) == (0,)


def test_gradient_inside_function():
    """Scores, gradient penalties and inner updates have the axes of the forward pass."""
    params = {"w": W, "v": f32(10, 3), "b": f32(1, 10)}

    def energy(params, x):
        return jnp.sum((jnp.tanh(x @ params["w"] + params["b"]) @ params["v"]) ** 2)

    def remat_energy(params, x):
        return jax.checkpoint(energy)(params, x)

    def penalty(params, x):
        return energy(params, x) + jnp.sum(jax.grad(energy, 1)(params, x) ** 2)

    def adapted(params, x):
        step = jax.grad(energy)(params, x)
        return energy(jax.tree.map(lambda p, g: p - 0.1 * g, params, step), x)

    expected = {"w": (0,), "v": (0,), "b": ADDED}
    assert infer(jax.grad(energy, 1), params, X) == expected
    assert infer(jax.grad(remat_energy, 1), params, X) == expected
    assert infer(jax.grad(energy), params, X) == expected
    assert infer(penalty, params, X) == expected
    assert infer(adapted, params, X) == expected


def test_repeated_bias_and_scale():
    """The bias also reaches a contraction through the data, but it is only added."""

    def fn(params, x):
        for _ in range(2):
            x = jnp.tanh(x @ params["w"] + params["b"]) * params["s"]
        return x

    params = {"w": f32(6, 6), "b": f32(1, 6), "s": f32(1, 6)}
    assert infer(fn, params, X) == {"w": (0,), "b": ADDED, "s": MULTIPLIED}


def test_closed_over_batch():
    """If there are no arrays in the arguments, the constants are the data."""
    tokens = jnp.array([[3, 1, 4], [1, 5, 9]])

    def fn(params):
        h = params["embed"][tokens] + params["position"][None]
        return (h + params["bias"][None, None]) @ params["w"]

    params = {"embed": f32(10, 6), "position": f32(3, 6), "bias": f32(6), "w": f32(6, 5)}
    found = infer(fn, params)
    assert found == {"embed": GATHERED, "position": ADDED, "bias": ADDED, "w": (0,)}
    single = infer(lambda params: params["embed"][tokens[0]] @ params["w"], params)
    assert (single["embed"], single["w"]) == (GATHERED, (0,))


def test_table_gathered_by_constants():
    """The relative position bias of windowed attention."""
    offsets = np.arange(9).reshape(3, 3)

    def fn(table, x):
        return jnp.einsum("bqd,bkd->bqk", x, x)[:, None] + table[offsets].transpose(2, 0, 1)[None]

    assert axes_of(fn, f32(9, 2), f32(4, 3, 6)) == GATHERED


def test_vector_weight():
    """A vector has no output axis, so only a contraction with data counts."""
    assert axes_of(lambda w, x: x @ w, f32(6), X) == (0,)
    assert axes_of(lambda w, x: x + w @ jnp.ones((6, 6)), f32(6), f32(6)) == "only used as an input"
