"""A published model, and the comparison of its inferred axes with the definition of its layers."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import optax_gc

Axes = tuple[int, ...]


class Model(NamedTuple):
    """A published model in a small configuration.

    Attributes:
      package: The package that defines it.
      name: The name of the model there.
      build: Returns the case. It imports the package.
    """

    package: str
    name: str
    build: Callable[[], "Case"]


class Case(NamedTuple):
    """What is given to `infer_axes`, and what is right.

    Attributes:
      fn: The forward pass, as the package's own tutorial writes it.
      params: The trained weights, as arrays or shapes.
      args: The other arguments of `fn`.
      expected: From the path of a weight and the weight to its fan-in axes by the definition of
        its layer; `()` if it has none.
    """

    fn: Callable[..., Any]
    params: Any
    args: tuple[Any, ...]
    expected: Callable[[str, Any], Axes]


class Result(NamedTuple):
    """The comparison of one model.

    Attributes:
      model: The model.
      right: The number of weights with the expected axes, weights without fan-in included.
      left_alone: The paths of weights with fan-in that were left alone, with their notes.
      wrong: The paths of weights with other axes, with both.
      seconds: The time of `infer_axes`, tracing included.
    """

    model: Model
    right: int
    left_alone: dict[str, str]
    wrong: dict[str, str]
    seconds: float


def check(model: Model) -> Result:
    """Infer the axes of a model and compare each weight."""
    case = model.build()
    start = time.perf_counter()
    axes = optax_gc.infer_axes(case.fn, case.params, *case.args)
    seconds = time.perf_counter() - start
    right, left_alone, wrong = 0, {}, {}
    weights = jax.tree_util.tree_leaves_with_path(case.params)
    for (path, leaf), fan_in in zip(weights, jax.tree.leaves(axes), strict=True):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            continue  # a mask or a counter
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        expected = case.expected(name, leaf)
        if fan_in.axes == expected:
            right += 1
        elif not fan_in.axes:
            left_alone[name] = fan_in.note
        else:
            wrong[name] = f"{fan_in.axes} instead of {expected}, shape {leaf.shape}"
    return Result(model, right, left_alone, wrong, seconds)
