"""The check of `infer_axes` on published models, on models that are right and wrong on purpose."""

import jax.numpy as jnp

from public_models.check import Case, Model, check
from public_models.page import render
from tests.support.fan_ins import f32, i32


def _model(expected):
    def build():
        params = {"w": f32(6, 5), "table": f32(9, 6), "mask": i32(5)}

        def fn(params, tokens):
            return params["table"][tokens] @ (params["w"] * params["mask"][None])

        return Case(fn, params, (i32(4),), lambda path, leaf: expected[path])

    return Model("package", "net", build)


def test_right_axes():
    result = check(_model({"w": (0,), "table": ()}))
    assert (result.right, result.left_alone, result.wrong) == (2, {}, {})
    assert "| package | net | 2 | 2 | 0 | 0 |" in render([result])


def test_wrong_axes_are_reported():
    result = check(_model({"w": (1,), "table": ()}))
    assert (result.right, result.left_alone) == (1, {})
    assert result.wrong == {"w": "(0,) instead of (1,), shape (6, 5)"}
    assert "**1 weights** are wrong" in render([result])


def test_weights_left_alone_are_reported():
    result = check(_model({"w": (0,), "table": (1,)}))
    assert (result.right, result.left_alone) == (1, {"table": "only gathered"})
    assert "- net, `table`: only gathered." in render([result])
    assert jnp.isfinite(result.seconds)
