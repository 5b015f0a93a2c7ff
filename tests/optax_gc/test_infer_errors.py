"""Error messages of `infer_axes`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_gc
from tests.support.fan_ins import f32, infer


def test_ambiguous_weight():
    """In an autoencoder with tied weights, encoder and decoder sum different axes."""

    def fn(params, x):
        w = params["layer"]["w"]
        return jnp.tanh(x @ w) @ w.T

    params = {"layer": {"w": f32(6, 5)}, "v": f32(6, 3)}
    with pytest.raises(ValueError, match="layer/w") as caught:
        optax_gc.infer_axes(
            lambda p, x: fn(p, x) @ p["v"], params, f32(4, 6), raise_if_ambiguous=True
        )
    message = str(caught.value)
    assert "layer/w of shape (6, 5) is ambiguous" in message
    assert "dot_general over axes (0,) and dot_general over axes (1,)" in message
    assert "stop_gradient" in message
    found = infer(lambda p, x: fn(p, x) @ p["v"], params, f32(4, 6))
    both = "dot_general over axes (0,) and dot_general over axes (1,)"
    assert found == {"layer/w": f"ambiguous: it is used by {both}", "v": (0,)}


def test_ambiguous_weight_is_decided_by_stop_gradient():
    def fn(w, x):
        return jnp.tanh(x @ w) @ jax.lax.stop_gradient(w).T

    assert infer(fn, f32(6, 5), f32(4, 6)) == {"": (0,)}


def test_ambiguous_between_primitives():
    def fn(w, x, image):
        y = jax.lax.conv(image, w, (1, 1), "SAME")
        return y.sum() + jnp.einsum("bi,iohw->bohw", x, w).sum()

    with pytest.raises(ValueError, match="the only leaf of shape") as caught:
        optax_gc.infer_axes(
            fn, f32(6, 6, 3, 3), f32(4, 6), f32(2, 6, 8, 8), raise_if_ambiguous=True
        )
    assert "conv_general_dilated over axes (1, 2, 3)" in str(caught.value)
    assert "dot_general over axes (0,)" in str(caught.value)


def test_wrong_argument_shapes():
    def model(params, x):
        return x @ params

    with pytest.raises(ValueError, match=r"could not trace model called on params") as caught:
        optax_gc.infer_axes(model, f32(6, 5), f32(4, 7))
    message = str(caught.value)
    assert "float32[4, 7]" in message
    assert "jax.ShapeDtypeStruct" in message
    assert "functools.partial" in message
    assert isinstance(caught.value.__cause__, TypeError)


def test_function_needs_concrete_values():
    def fn(w, x):
        return x @ w if x.sum() > 0 else x

    with pytest.raises(ValueError, match="TracerBoolConversionError") as caught:
        optax_gc.infer_axes(fn, f32(6, 6), f32(4, 6))
    assert isinstance(caught.value.__cause__, jax.errors.TracerBoolConversionError)


def test_missing_arguments():
    with pytest.raises(ValueError, match="missing 1 required positional argument: 'x'"):
        optax_gc.infer_axes(lambda w, x: x @ w, f32(6, 6))


def test_function_is_not_run():
    """The arrays would not fit in memory."""
    huge = f32(10**6, 10**6)
    assert optax_gc.infer_axes(lambda w, x: x @ w, huge, huge) == optax_gc.FanIn(
        (0,), "dot_general"
    )


def test_empty_leaves_and_trees():
    found = optax_gc.infer_axes(lambda w, x: x @ w, np.zeros((0, 5), np.float32), f32(4, 0))
    assert found.axes == (0,)
    assert optax_gc.infer_axes(lambda params: None, {}) == {}
    assert optax_gc.infer_axes(lambda params: None, {"w": f32(3)})["w"].note == "never used"


def test_closed_over_weights_are_reported():
    """A model that holds its weights ignores the argument, and nothing would be centralized."""
    weights = jnp.ones((4, 5))
    with pytest.raises(ValueError, match=r"fn uses no weight of params, but closes over other"):
        optax_gc.infer_axes(lambda params, x: x @ weights, {"w": weights}, f32(3, 4))
    axes = optax_gc.infer_axes(
        lambda params, x: x @ weights @ params["w"], {"w": f32(5, 2)}, f32(4)
    )
    assert axes["w"].axes == (0,)


def test_wrapped_arrays_are_refused():
    """The variables of Keras have the attributes of arrays; left alone, nothing is centralized."""
    keras_variable = type("Variable", (), {"value": jnp.ones((4, 5)), "dtype": "float32"})()
    with pytest.raises(
        TypeError, match=r"params\[1\] is a Variable and not an array; pass the arr"
    ):
        optax_gc.infer_axes(lambda params, x: x @ params[0], [f32(4, 5), keras_variable], f32(2, 4))
