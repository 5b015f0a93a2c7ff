"""Which arguments of a function are data for `infer_axes`, and which are frozen weights."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import optax_gc
from tests.support.fan_ins import GATHERED, axes_of, f32, i32, infer

X = f32(4, 6)


def embed(table, kernel, tokens):
    return table[tokens] @ kernel


@pytest.mark.parametrize("tokens", [i32(4), i32(), i32(4, 3)], ids=str)
def test_table_before_a_frozen_kernel(tokens):
    """The table is only gathered, however the frozen kernel is passed."""
    table, kernel = f32(11, 6), f32(6, 5)
    assert axes_of(embed, table, kernel, tokens) == GATHERED
    assert (
        axes_of(lambda table, rest, i: embed(table, rest[0], i), table, [kernel], tokens)
        == GATHERED
    )
    bound = jnp.ones((6, 5))
    assert axes_of(lambda table, i: embed(table, bound, i), table, tokens) == GATHERED


def test_rows_of_an_output_layer():
    """In a sampled softmax, the gathered rows are contracted with the data."""
    fn = lambda w, labels, h: jnp.einsum("bd,bd->b", w[labels], h)  # noqa: E731
    assert axes_of(fn, f32(11, 6), i32(4), X) == (1,)


def test_latents_before_a_frozen_kernel():
    def fn(params, frozen, x):
        queries = jnp.tanh(params["latents"] @ frozen["kernel"] + frozen["bias"][None])
        return jax.nn.softmax(queries @ x.T) @ (x @ params["value"])

    params = {"latents": f32(3, 8), "value": f32(6, 5)}
    frozen = {"kernel": f32(8, 6), "bias": f32(6)}
    found = infer(fn, params, frozen, X)
    assert found == {"latents": "only used as an input", "value": (0,)}
    as_data = infer(fn, params, frozen, X, data_argnums=(1, 2))
    assert as_data == {"latents": (1,), "value": (0,)}


def test_data_argnums():
    def fn(params, kernel, x):
        return x @ (kernel + params["a"] @ params["b"])

    params = {"a": f32(6, 2), "b": f32(2, 10)}
    kernel = f32(6, 10)
    assert infer(fn, params, kernel, X, data_argnums=2) == {"a": (0,), "b": (0,)}
    assert infer(fn, params, kernel, X, data_argnums=[2]) == {"a": (0,), "b": (0,)}
    unsure = infer(fn, params, kernel, X)
    assert unsure["b"] == (0,)
    assert unsure["a"] == "ambiguous: an argument is data or frozen weights; give data_argnums"
    with pytest.raises(ValueError, match=r"a of shape .* ambiguous.*data_argnums"):
        optax_gc.infer_axes(fn, params, kernel, X, raise_if_ambiguous=True)


@pytest.mark.parametrize("number", [0, 3, -1])
def test_data_argnums_out_of_range(number):
    with pytest.raises(ValueError, match=f"data_argnums has {number}.*0 .params. to 2"):
        optax_gc.infer_axes(lambda w, x, y: x @ w, f32(6, 5), X, X, data_argnums=number)


@pytest.mark.parametrize(
    "call",
    [
        lambda fn, w, x: axes_of(lambda w, batch: fn(w, batch["x"]), w, {"x": x, "y": i32(4)}),
        lambda fn, w, x: axes_of(
            lambda w, batch, key: fn(w, batch["x"]), w, {"x": x}, jax.random.key(0)
        ),
        lambda fn, w, x: axes_of(
            lambda w, batch, key: fn(w, batch["x"]), w, {"x": x}, jax.random.PRNGKey(0)
        ),
        lambda fn, w, x: axes_of(
            lambda w, graph, labels: fn(w, graph["x"]), w, {"x": x, "edges": f32(9, 2)}, i32(4)
        ),
        lambda fn, w, x: axes_of(lambda w, x, y: fn(w, x), w, x, f32(9, 2)),
        lambda fn, w, x: optax_gc.infer_axes(lambda w, rest, x: fn(w, x), w, [f32(7)], x=x).axes,
    ],
    ids=["dict", "key", "old key", "graph", "two arrays", "keyword"],
)
def test_batches_are_data(call):
    """A layer with one output is contracted with the data, or it would be an input."""
    assert call(lambda w, x: x @ w, f32(6, 1), X) == (0,)


class Adapted(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(11, 6, rngs=rngs)
        self.frozen = nnx.Linear(6, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, rngs=rngs)
        self.head = nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, tokens):
        return self.head(self.norm(self.frozen(self.embed(tokens))))


def test_nnx_split_with_a_filter():
    """The rest of a module that is split by a filter holds frozen weights."""
    model = Adapted(nnx.Rngs(0))
    is_trained = lambda path, value: isinstance(value, nnx.Param) and "frozen" not in path  # noqa: E731
    graph, params, rest = nnx.split(model, is_trained, ...)
    found = infer(lambda params, rest, i: nnx.merge(graph, params, rest)(i), params, rest, i32(4))
    kernels = {path: axes for path, axes in found.items() if isinstance(axes, tuple)}
    assert kernels == {"head/kernel": (0,)}
    assert found["embed/embedding"] == GATHERED


def test_rngs_that_are_not_split():
    model = nnx.Dropout(0.5)
    rngs = nnx.Rngs(0)
    with pytest.raises(ValueError, match=r"TraceContextError.*nnx.Rngs.*split"):
        optax_gc.infer_axes(lambda w, x: model(x @ w, rngs=rngs), f32(6, 5), X)
