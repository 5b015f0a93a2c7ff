"""`muon_dimension_numbers`: Muon on kernels of any layout."""

from collections.abc import Callable

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import optax_gc
from optax_gc import FanIn
from optax_gc._contractions import AS_INPUT
from tests.support.fan_ins import f32, i32


def _numbers(fn, params, *args):
    numbers = optax_gc.muon_dimension_numbers(optax_gc.infer_axes(fn, params, *args))
    return numbers and tuple(map(tuple, numbers))


@pytest.mark.parametrize(
    ("fn", "weight", "x", "expected"),
    [
        (lambda w, x: x @ w, f32(6, 5), f32(4, 6), ((0,), (1,))),
        (lambda w, x: x @ w.T, f32(5, 6), f32(4, 6), ((1,), (0,))),
        (lambda w, x: jnp.tensordot(x, w, 1), f32(6, 2, 3), f32(4, 6), ((0,), (1, 2))),
        (lambda w, x: jnp.tensordot(x, w, 2), f32(2, 3, 6), f32(4, 2, 3), ((0, 1), (2,))),
        (
            lambda w, x: jax.lax.conv(x, w, (1, 1), "SAME"),
            f32(5, 6, 3, 3),
            f32(2, 6, 8, 8),
            ((1, 2, 3), (0,)),
        ),
        (
            lambda w, x: jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0],
            f32(3, 6, 6),
            f32(4, 6),
            ((1,), (2,)),
        ),
        (lambda w, x: jnp.einsum("eti,eio->eto", x, w), f32(3, 6, 5), f32(3, 4, 6), ((1,), (2,))),
        (lambda w, x: x @ w, f32(6), f32(4, 6), None),
        (lambda w, x: w[x], f32(11, 6), i32(4), None),
        (lambda w, x: x + w, f32(4, 6), f32(4, 6), None),
    ],
    ids=[
        *("matrix", "transposed", "heads", "merged heads", "convolution", "scanned layers"),
        *("experts", "vector", "table", "added"),
    ],
)
def test_dimension_numbers(fn, weight, x, expected):
    assert _numbers(fn, weight, x) == expected


def test_adapters():
    def fn(params, x):
        return x @ (params["w"] + params["a"] @ params["b"])

    params = {"w": f32(6, 10), "a": f32(6, 2), "b": f32(2, 10)}
    numbers = optax_gc.muon_dimension_numbers(optax_gc.infer_axes(fn, params, f32(4, 6)))
    assert all(tuple(map(tuple, pair)) == ((0,), (1,)) for pair in numbers.values())


def test_update_is_that_of_matrices():
    """Muon on a stack of transposed convolutions is Muon on each, reshaped to a matrix."""
    rng = np.random.default_rng(0)
    grads = jnp.asarray(rng.standard_normal((2, 5, 6, 3)), jnp.float32)  # stack, out, in, width
    axes = FanIn((2, 3), out_axes=(1,))
    tx = optax.contrib.scale_by_muon(weight_dimension_numbers=optax_gc.muon_dimension_numbers(axes))
    updates, _ = tx.update(grads, tx.init(grads))
    matrix_tx = optax.contrib.scale_by_muon(
        weight_dimension_numbers=optax.contrib.MuonDimensionNumbers(0, 1)
    )
    for update, grad in zip(updates, grads, strict=True):
        matrix = grad.transpose(1, 2, 0).reshape(18, 5)
        expected, _ = matrix_tx.update(matrix, matrix_tx.init(matrix))
        chex.assert_trees_all_close(update.transpose(1, 2, 0).reshape(18, 5), expected, atol=1e-5)


def test_names_give_output_axes():
    path = (jax.tree_util.DictKey("query"), jax.tree_util.DictKey("kernel"))
    numbers = optax_gc.muon_dimension_numbers({"w": optax_gc.by_name(path, f32(16, 4, 8))})
    assert tuple(map(tuple, numbers["w"])) == ((0,), (1, 2))


def test_trains_with_muon():
    keys = jax.random.split(jax.random.key(1), 2)
    conv, out = (
        jax.random.normal(*item) for item in zip(keys, [(3, 3, 2, 4), (4, 5)], strict=True)
    )
    params = {"conv": conv, "out": out, "bias": jnp.zeros(5)}

    def model(params, images):
        numbers = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(
            images, params["conv"], (1, 1), "SAME", dimension_numbers=numbers
        )
        return y.mean((1, 2)) @ params["out"] + params["bias"][None]

    images = jax.random.normal(jax.random.key(0), (3, 6, 6, 2))
    axes = optax_gc.infer_axes(model, params, images)
    tx = optax.chain(
        optax_gc.centralize(axes),
        optax.contrib.muon(
            0.1, muon_weight_dimension_numbers=optax_gc.muon_dimension_numbers(axes)
        ),
    )
    grads = jax.grad(lambda params: (model(params, images) ** 2).mean())(params)
    updates, _ = tx.update(grads, tx.init(params), params)
    chex.assert_tree_all_finite(updates)
    assert all(jnp.abs(update).max() > 0 for update in updates.values())


def test_centralized_gradient_gives_centralized_update():
    """The polynomials of Muon keep the momentum orthogonal to the vector of ones."""
    grad = jax.random.normal(jax.random.key(0), (64, 32)) + 0.3
    tx = optax.chain(optax_gc.centralize(optax_gc.last_axis_out), optax.contrib.scale_by_muon())
    update, _ = tx.update(grad, tx.init(grad))
    assert jnp.abs(update.mean(0)).max() < 1e-5 * jnp.abs(update).mean()


@pytest.mark.parametrize("axes", [None, optax_gc.by_name, {}, {"w": jnp.ones(3)}, "kernel"])
def test_needs_a_tree_of_fan_ins(axes):
    with pytest.raises(TypeError, match="FanIn"):
        optax_gc.muon_dimension_numbers(axes)


def test_unknown_output_axes():
    with pytest.raises(ValueError, match=r"layer/w are not known.*out_axes"):
        optax_gc.muon_dimension_numbers({"layer": {"w": FanIn((0,))}})


def test_input_has_no_numbers():
    fan_in = FanIn((), note=f"only {AS_INPUT}")
    assert optax_gc.muon_dimension_numbers({"w": fan_in}) == {"w": None}


class _Net(eqx.Module):
    conv: eqx.nn.Conv2d
    out: eqx.nn.Linear
    activation: Callable

    def __init__(self, key):
        self.conv = eqx.nn.Conv2d(3, 4, 3, key=key)
        self.out = eqx.nn.Linear(4, 2, key=key)
        self.activation = jax.nn.relu

    def __call__(self, image):
        return self.out(self.activation(self.conv(image)).mean((1, 2)))


def _chain(axes):
    numbers = optax_gc.muon_dimension_numbers(axes)
    muon = optax.contrib.muon(0.02, muon_weight_dimension_numbers=numbers)
    return optax.chain(optax_gc.centralize(axes), muon)


def test_equinox_module():
    """The module is callable, and optax calls what is callable."""
    model = _Net(jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (4, 3, 8, 8))
    tx = _chain(optax_gc.infer_axes(lambda model, x: jax.vmap(model)(x), model, images))
    params = eqx.filter(model, eqx.is_inexact_array)
    grads = eqx.filter_grad(lambda model: (jax.vmap(model)(images) ** 2).sum())(model)
    updates, _ = tx.update(grads, tx.init(params), params)
    assert abs(updates.conv.weight.mean((1, 2, 3))).max() < 1e-6 < abs(updates.conv.weight).max()
    assert abs(updates.out.weight.mean(1)).max() < 1e-6 < abs(updates.out.weight).max()


@pytest.mark.parametrize("split", [True, False])
def test_nnx_module(split):
    """The optimizer gets parameters in boxes at first, and gradients without them later."""
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.Linear(4, 2, rngs=rngs))
    images = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
    graph, params = nnx.split(model)
    if split:
        axes = optax_gc.infer_axes(lambda params, x: nnx.merge(graph, params)(x), params, images)
    else:
        axes = optax_gc.infer_axes(lambda model, x: model(x), model, images)
    optimizer = nnx.Optimizer(model, _chain(axes), wrt=nnx.Param)
    before = jnp.copy(model.layers[0].kernel[...])
    optimizer.update(model, nnx.grad(lambda model: (model(images) ** 2).sum())(model))
    change = model.layers[0].kernel[...] - before
    assert abs(change.mean((0, 1, 2))).max() < 1e-6 < abs(change).max()


def test_leaf_named_value():
    """Only the box of an NNX leaf is removed, not a dict with this key."""
    numbers = optax_gc.muon_dimension_numbers({"value": FanIn((0,), out_axes=(1,))})
    assert tuple(map(tuple, numbers["value"])) == ((0,), (1,))
