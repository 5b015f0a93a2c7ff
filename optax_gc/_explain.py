"""`explain`: a table of the leaves that are centralized, with the reasons."""

import html
import math

import optax

from optax_gc._plan import Axes, PlannedLeaf, fan_in_size, plan

_HEADER = ("path", "shape", "fan-in axes", "fan-in", "constraints", "note")


class Explanation(str):
    """A table as a string, which notebooks and prompts show as a table too."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self)}</pre>"


def explain(params: optax.Params, axes: Axes = None, *, conv_only: bool = False) -> Explanation:
    """Return a table of what `centralize(axes, conv_only=conv_only)` does to each leaf.

    Args:
      params: Parameters, gradients or their `jax.ShapeDtypeStruct`s.
      axes: As for `centralize`.
      conv_only: As for `centralize`.

    Returns:
      One row per leaf: its path, its shape, its fan-in axes, the number of elements in each mean,
      and the number of means that are removed (one constraint per output unit). If the leaf is left
      alone, the note gives the reason. The last line is the total. The table is a string.

    Raises:
      TypeError: As `centralize` does at `init`.
      ValueError: As `centralize` does at `init`.

    Examples:
      >>> import jax.numpy as jnp, optax_gc
      >>> print(optax_gc.explain({"kernel": jnp.zeros((3, 3, 16, 32)), "bias": jnp.zeros(32)}))
      path    shape      fan-in axes  fan-in  constraints  note
      bias    32         -            -       -            left alone: bias
      kernel  3x3x16x32  0, 1, 2      144     32
      total: 1 of 2 leaves centralized, 4,608 of 4,640 elements, 32 constraints
    """
    planned = [row for row in plan(params, axes, conv_only)[0] if hasattr(row.leaf, "shape")]
    rows = [_HEADER, *map(_row, planned)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return Explanation("\n".join([*lines, _total(planned)]))


def _row(planned: PlannedLeaf) -> tuple[str, ...]:
    path, leaf, fan_in = planned
    shape = "x".join(map(str, leaf.shape)) or "scalar"
    if not fan_in.axes:
        return (path, shape, "-", "-", "-", f"left alone: {fan_in.note or 'no fan-in axes'}")
    note = "; ".join(filter(None, [fan_in.op, fan_in.note, *fan_in.mesh_axes]))
    axes = ", ".join(map(str, fan_in.axes))
    return (path, shape, axes, str(fan_in_size(leaf, fan_in)), f"{_constraints(planned):,}", note)


def _constraints(planned: PlannedLeaf) -> int:
    return math.prod(planned.leaf.shape) // fan_in_size(planned.leaf, planned.fan_in)


def _total(planned: list[PlannedLeaf]) -> str:
    centralized = [row for row in planned if row.fan_in.axes]
    return (
        f"total: {len(centralized)} of {len(planned)} leaves centralized, "
        f"{_elements(centralized):,} of {_elements(planned):,} elements, "
        f"{sum(map(_constraints, centralized)):,} constraints"
    )


def _elements(planned: list[PlannedLeaf]) -> int:
    return sum(math.prod(row.leaf.shape) for row in planned)
