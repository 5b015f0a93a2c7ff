"""The table of `explain`."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_gc
from optax_gc import FanIn

PARAMS = {
    "conv": {"kernel": jnp.zeros((3, 3, 16, 32)), "bias": jnp.zeros(32)},
    "dense": {"kernel": jnp.zeros((2048, 1000))},
}


def _rows(*args, **kwargs):
    """Return `{path: (shape, axes, fan-in, constraints[, note])}` and the last line."""
    _, *rows, total = optax_gc.explain(*args, **kwargs).splitlines()
    cells = [re.split("  +", row) for row in rows]
    return {path: tuple(rest) for path, *rest in cells}, total


def test_rows_and_total():
    rows, total = _rows(PARAMS)
    assert rows == {
        "conv/bias": ("32", "-", "-", "-", "left alone: bias"),
        "conv/kernel": ("3x3x16x32", "0, 1, 2", "144", "32"),
        "dense/kernel": ("2048x1000", "0", "2048", "1,000"),
    }
    assert total == (
        "total: 2 of 3 leaves centralized, 2,052,608 of 2,052,640 elements, 1,032 constraints"
    )


def test_no_trailing_spaces():
    assert all(line == line.rstrip() for line in optax_gc.explain(PARAMS).splitlines())


@pytest.mark.parametrize(
    ("params", "axes", "reason"),
    [
        ({"w": jnp.zeros((2, 3))}, {"w": FanIn(())}, "no fan-in axes"),
        ({"w": jnp.zeros((2, 3))}, {"w": FanIn((), note="gathered")}, "gathered"),
        ({"w": jnp.zeros((1, 3))}, None, "a fan-in of one: its mean is itself"),
        ({"w": jnp.zeros((0, 3))}, None, "empty"),
        ({"w": jnp.zeros(3)}, None, "fewer than two axes"),
        ({"w": jnp.zeros(())}, None, "fewer than two axes"),
        ({"w": np.zeros((2, 3), int)}, None, "not an array of floating-point numbers"),
    ],
)
def test_reason_for_left_alone(params, axes, reason):
    rows, total = _rows(params, axes)
    assert rows["w"][1:] == ("-", "-", "-", f"left alone: {reason}")
    assert total.startswith("total: 0 of 1 leaves centralized, 0 of ")


def test_conv_only_reason():
    rows, total = _rows(PARAMS, conv_only=True)
    assert rows["dense/kernel"][-1] == "left alone: not a convolution's kernel"
    assert total.startswith("total: 1 of 3 leaves")


def test_note_has_op_and_mesh_axes():
    axes = {"w": FanIn((0,), "dot_general", "tied", mesh_axes=("model",))}
    rows, _ = _rows({"w": jnp.zeros((2, 3))}, axes)
    assert rows["w"][-1] == "dot_general; tied; model"


def test_shapes_give_same_table():
    shapes = jax.eval_shape(lambda: PARAMS)
    assert optax_gc.explain(shapes) == optax_gc.explain(PARAMS)


def test_masked_leaves_have_no_row():
    rows, total = _rows({"w": jnp.zeros((2, 3)), "masked": optax.MaskedNode(), "none": None})
    assert list(rows) == ["w"]
    assert total.startswith("total: 1 of 1 leaves")


def test_empty_tree():
    assert optax_gc.explain({}).splitlines()[-1] == (
        "total: 0 of 0 leaves centralized, 0 of 0 elements, 0 constraints"
    )


def test_table_displays_as_text():
    table = optax_gc.explain({"a<b": jnp.zeros((2, 3))})
    assert repr(table) == str(table)
    assert "\n" in repr(table)
    assert table._repr_html_() == f"<pre>{str(table).replace('<', '&lt;')}</pre>"
    assert isinstance(table, str)
