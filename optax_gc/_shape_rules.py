"""Rules for primitives that rearrange one array or select a part of it by an index."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from optax_gc._dims import (
    UNKNOWN_AXIS,
    Dim,
    Dims,
    Factor,
    broadcast,
    drop_dims,
    insert_dim,
    other_dims,
    permute,
    reshape,
    resize,
)
from optax_gc._provenance import Provenance, Use, union

if TYPE_CHECKING:
    from jax.extend.core import JaxprEqn

Rule: TypeAlias = "Callable[[JaxprEqn, Sequence[Provenance]], list[Provenance]]"
"""From an equation and the provenance of its inputs to the provenance of its outputs."""

DimsFn: TypeAlias = "Callable[[JaxprEqn, Dims, tuple[int, ...]], Dims | None]"
"""From an equation, the dimensions of its input and its output shape to the new dimensions."""


def shape_of(var) -> tuple[int, ...]:
    """Return the shape of a jaxpr variable. A token has the shape of a scalar."""
    return getattr(var.aval, "shape", ())


def _make_shape_rule(fn: DimsFn) -> Rule:
    """Return the rule that applies `fn` to the dimensions of each view."""

    def rule(eqn, inputs):
        if len(inputs) != len(eqn.outvars):
            inputs = [union(inputs)] * len(eqn.outvars)
        return [
            operand.map_dims(
                functools.partial(lambda shape, dims: fn(eqn, dims, shape), shape_of(var)),
                f"lost at {eqn.primitive.name}",
            )
            for var, operand in zip(eqn.outvars, inputs, strict=True)
        ]

    return rule


def _all_gather(eqn, dims, shape):
    if not eqn.params["tiled"]:
        axis = eqn.params["all_gather_dimension"]
        dims = insert_dim(dims, axis, Factor(UNKNOWN_AXIS, shape[axis]))
    return resize(dims, shape)


def _broadcast_in_dim(eqn, dims, shape):
    new_dims = [*other_dims((1,) * len(shape))]
    for dim, position in zip(dims, eqn.params["broadcast_dimensions"], strict=True):
        new_dims[position] = dim
    return broadcast(tuple(new_dims), shape)


def _reshape(eqn, dims, shape):
    permutation = eqn.params.get("dimensions")  # set by vmap of a convolution
    return reshape(dims if permutation is None else permute(dims, permutation), shape)


def _tile(eqn, dims, shape):
    dims_and_reps = zip(dims, eqn.params["reps"], strict=True)
    return tuple((Factor(None, reps), *dim) if reps > 1 else dim for dim, reps in dims_and_reps)


_KEEPS_AXES = (
    "convert_element_type copy device_put layout_constraint name optimization_barrier pmax"
    " pmin psum psum_invariant pvary reduce_precision relayout reshard rev sharding_constraint"
    " slice split with_memory_space_constraint"
)
_SHAPE_FNS: dict[str, DimsFn] = {
    **dict.fromkeys(_KEEPS_AXES.split(), lambda eqn, dims, shape: resize(dims, shape)),
    "all_gather": _all_gather,
    "all_gather_invariant": _all_gather,
    "broadcast_in_dim": _broadcast_in_dim,
    "reshape": _reshape,
    "squeeze": lambda eqn, dims, shape: drop_dims(dims, eqn.params["dimensions"]),
    "tile": _tile,
    "transpose": lambda eqn, dims, shape: permute(dims, eqn.params["permutation"]),
    "unstack": lambda eqn, dims, shape: drop_dims(dims, [eqn.params["axis"]]),
}


def _dynamic_slice(eqn, inputs):
    operand, *starts = inputs
    shape = shape_of(eqn.outvars[0])
    operand = operand.map_dims(lambda dims: resize(dims, shape), "lost at dynamic_slice")
    start = union(starts)
    if start.depends_on_data:
        sizes = zip(shape_of(eqn.invars[0]), shape, strict=True)
        sliced = [position for position, (old, new) in enumerate(sizes) if old != new]
        operand = _mark_gathered(operand).with_uses(_gathered_products(inputs[0], sliced))
    return [operand | start.without_views]


def _gather(eqn, inputs):
    operand, indices = inputs
    numbers = eqn.params["dimension_numbers"]
    shape = shape_of(eqn.outvars[0])
    collapsed, batching = numbers.collapsed_slice_dims, numbers.operand_batching_dims
    index_dims = [position for position in range(len(shape)) if position not in numbers.offset_dims]
    batch_dims = [index_dims[dim] for dim in numbers.start_indices_batching_dims]
    free_dims = [position for position in index_dims if position not in batch_dims]

    def move(dims):
        new_dims: list[Dim] = [(Factor(UNKNOWN_AXIS, size),) for size in shape]
        slice_dims = drop_dims(dims, (*collapsed, *batching))
        for position, dim in zip(numbers.offset_dims, slice_dims, strict=True):
            new_dims[position] = dim
        for position, dim in zip(batch_dims, batching, strict=True):
            new_dims[position] = dims[dim]
        if len(free_dims) == len(collapsed) == 1 and not indices.depends_on_data:
            new_dims[free_dims[0]] = dims[collapsed[0]]  # constant indices along one axis
        return resize(tuple(new_dims), shape)

    output = operand.map_dims(move, "lost at gather")
    if free_dims or indices.depends_on_data:
        output = _mark_gathered(output).with_uses(_gathered_products(operand, collapsed))
    return [output | indices.without_views]


def _gathered_products(operand: Provenance, positions: Sequence[int]) -> set[Use]:
    """Return the use "gathered" of weights whose axis a gather selects in a product of weights."""
    return {
        Use(view.weight, "gathered", counted=view.differentiable)
        for view in operand.views
        if view.product and view.product.of_weights and view.long_axes(positions)
    }


def _mark_gathered(operand: Provenance) -> Provenance:
    """Record the use "gathered", and mark the views so that they add no other such use."""
    views = frozenset(view._replace(gathered=True) for view in operand.views)
    return operand.views_to_uses("gathered")._replace(views=views)


SHAPE_RULES: dict[str, Rule] = {
    **{name: _make_shape_rule(fn) for name, fn in _SHAPE_FNS.items()},
    "dynamic_slice": _dynamic_slice,
    "gather": _gather,
}
"""The rule of each primitive that rearranges or indexes an array."""
