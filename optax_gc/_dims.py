"""Arithmetic on the dimensions of an array, written as factors of a weight's axes."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

UNKNOWN_AXIS = -1
"""The axis of a dimension that stacks slices of one weight, if it is not known which axis it is."""


class Factor(NamedTuple):
    """A contiguous part of one axis of a weight; `axis=None` if it is not an axis of the weight."""

    axis: int | None
    size: int


Dim: TypeAlias = tuple[Factor, ...]
"""One dimension: its size is the product of these factors, major first."""

Dims: TypeAlias = tuple[Dim, ...]
"""All dimensions of an array."""


def weight_dims(shape: Sequence[int]) -> Dims:
    """Return the dimensions of an unmodified weight."""
    return tuple((Factor(axis, size),) for axis, size in enumerate(shape))


def other_dims(shape: Sequence[int]) -> Dims:
    """Return dimensions that are not axes of a weight."""
    return tuple((Factor(None, size),) for size in shape)


def axis_of_factors(dim: Dim) -> int | None:
    """Return the first axis of more than one element in a dimension; None if there is none."""
    return next((factor.axis for factor in dim if factor.size > 1), None)


def insert_dim(dims: Dims, position: int, factor: Factor) -> Dims:
    """Return `dims` with one more dimension at `position`."""
    return (*dims[:position], (factor,), *dims[position:])


def drop_dims(dims: Dims, positions: Iterable[int]) -> Dims:
    """Return `dims` without the dimensions at `positions`."""
    dropped = set(positions)
    return tuple(dim for position, dim in enumerate(dims) if position not in dropped)


def permute(dims: Dims, permutation: Sequence[int]) -> Dims:
    """Return `dims` in another order."""
    return tuple(dims[position] for position in permutation)


def broadcast(dims: Dims, shape: Sequence[int]) -> Dims:
    """Return `dims` broadcast to `shape`. A dimension that grows is not an axis of the weight."""
    if not dims:
        return other_dims(shape)
    return tuple(
        dim if dim_size(dim) == size else (Factor(None, size),)
        for dim, size in zip(dims, shape, strict=True)
    )


def resize(dims: Dims, shape: Sequence[int]) -> Dims | None:
    """Return `dims` with other sizes, as after slicing, padding or concatenation.

    Returns None if the rank differs, or if a dimension of several factors changes its size.
    """
    if len(dims) != len(shape):
        return None
    resized = [
        dim if dim_size(dim) == size else (Factor(dim[0].axis, size),)
        for dim, size in zip(dims, shape, strict=True)
    ]
    if any(len(old) > len(new) for old, new in zip(dims, resized, strict=True)):
        return None
    return tuple(resized)


def reshape(dims: Dims, shape: Sequence[int]) -> Dims | None:
    """Distribute the factors over the dimensions of a new shape, and split factors if necessary.

    Returns None if a new dimension needs a part of a factor that is not contiguous.

    >>> kernel = weight_dims((6, 35))
    >>> [len(dim) for dim in reshape(kernel, (6, 5, 7))]
    [1, 1, 1]
    >>> reshape(reshape(kernel, (210,)), (6, 35)) == kernel
    True
    >>> reshape(kernel, (21, 10)) is None  # 21 overlaps both axes
    True
    """
    if 0 in shape:
        return None
    remaining = _merge_factors(factor for dim in dims for factor in dim)
    new_dims = []
    for size in shape:
        dim: list[Factor] = []
        while size > 1 or (not dim and remaining and remaining[0].size == 1):
            first = remaining.pop(0)
            if size % first.size == 0:
                dim.append(first)
            elif first.size % size == 0:
                dim.append(first._replace(size=size))
                remaining.insert(0, first._replace(size=first.size // size))
            else:
                return None
            size //= dim[-1].size
        new_dims.append(tuple(dim) or (Factor(None, 1),))
    return tuple(new_dims)


def dim_size(dim: Dim) -> int:
    return math.prod(factor.size for factor in dim)


def _merge_factors(factors: Iterable[Factor]) -> list[Factor]:
    """Merge adjacent factors of one axis, and drop factors of size 1 that are not an axis."""
    merged: list[Factor] = []
    for factor in factors:
        if factor == Factor(None, 1):
            continue
        if merged and merged[-1].axis == factor.axis:
            factor = Factor(factor.axis, merged.pop().size * factor.size)
        merged.append(factor)
    return merged
