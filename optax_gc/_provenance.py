"""What the tracer knows of an array: the weights it holds, and what became of others before it."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

PIECES = -1
"""The axis along which pieces of one weight were put side by side, whichever they were."""


class Factor(NamedTuple):
    """A stretch of one of a weight's axes; `axis=None` for what is no axis of the weight's."""

    axis: int | None
    size: int


Dims: TypeAlias = tuple[tuple[Factor, ...], ...]
"""For each dimension of an array, major first, the factors that its size is the product of."""


class View(NamedTuple):
    """A weight as an array holds it: transposed, reshaped, sliced, rescaled."""

    weight: int
    dims: Dims
    live: bool = True  # a gradient flows back through it
    picked: bool = False  # by an array of indices, or by one that depends on the data

    @property
    def copied(self) -> bool:
        """Whether the weight is spread along something that is no axis of its own."""
        return any(factor.axis is None for dim in self.dims for factor in dim)

    def axes(self, dims: Iterable[int]) -> set[int]:
        """The weight's axes that lie along these dimensions."""
        return {f.axis for dim in dims for f in self.dims[dim] if f.axis is not None}


class Use(NamedTuple):
    """One way in which a weight reaches an array without being held by it any more."""

    weight: int
    how: str  # the primitive that contracted it, else a participle or "lost at ..."
    axes: tuple[int, ...] | None = None  # those contracted; None where it was no contraction
    by_data: bool = False  # contracted with something that depends on the data
    live: bool = True  # counts: a gradient flows back, and not merely to rescale the weight


class Value(NamedTuple):
    """Everything known of one array."""

    views: frozenset[View] = frozenset()
    uses: frozenset[Use] = frozenset()
    data: bool = False

    def __or__(self, other: "Value") -> "Value":  # type: ignore[override]
        return Value(self.views | other.views, self.uses | other.uses, self.data or other.data)

    @property
    def history(self) -> "Value":
        """The same without the weights that it holds."""
        return self._replace(views=frozenset())

    def detached(self) -> "Value":
        """The same where no gradient flows back."""
        return Value(
            frozenset(view._replace(live=False) for view in self.views),
            retire(self.uses),
            self.data,
        )

    def lost(self, how: str) -> "Value":
        """The same once an operation has swallowed the weights that it holds."""
        return self.history | Value(uses=frozenset(farewell(self.views, how)))

    def moved(self, move: Callable[[Dims], Dims | None], how: str) -> "Value":
        """The same with its dimensions rearranged; where `move` gives None a view is lost."""
        kept, gone = set(), set()
        for view in self.views:
            dims = move(view.dims)
            if dims is None:
                gone.add(view)
            else:
                kept.add(view._replace(dims=dims))
        lost = Value(frozenset(gone)).lost(how)
        return self.history | Value(frozenset(kept)) | lost


UNRELATED = Value()
"""A constant, or noise: neither a weight nor the data has to do with it."""


def union(values: Iterable[Value]) -> Value:
    """Everything that any of these may be."""
    result = Value()
    for value in values:
        result |= value
    return result


def farewell(views: Iterable[View], how: str) -> set[Use]:
    """The uses that losing sight of `views` leaves; a picked weight's use is on record already."""
    return {Use(view.weight, how, live=view.live) for view in views if not view.picked}


def retire(uses: Iterable[Use]) -> frozenset[Use]:
    """The same uses, which count no more."""
    return frozenset(use._replace(live=False) for use in uses)


def whole(shape: Sequence[int]) -> Dims:
    """The dimensions of a weight that nothing has happened to."""
    return tuple((Factor(axis, size),) for axis, size in enumerate(shape))


def foreign(shape: Sequence[int]) -> Dims:
    """Dimensions along which there is no weight."""
    return tuple((Factor(None, size),) for size in shape)


def inserted(dims: Dims, axis: int, factor: Factor) -> Dims:
    """The same with one more dimension."""
    return (*dims[:axis], (factor,), *dims[axis:])


def spread(dims: Dims, shape: Sequence[int]) -> Dims:
    """The same dimensions broadcast; what is repeated along a dimension does not lie along it."""
    if not dims:
        return foreign(shape)
    return tuple(
        dim if _length(dim) == size else (Factor(None, size),)
        for dim, size in zip(dims, shape, strict=True)
    )


def fit(dims: Dims, shape: Sequence[int]) -> Dims | None:
    """The same dimensions at other lengths, as slicing, padding and joining leave them."""
    if len(dims) != len(shape):
        return None
    fitted = [
        dim if _length(dim) == size else (Factor(dim[0].axis, size),)
        for dim, size in zip(dims, shape, strict=True)
    ]
    resized = zip(dims, fitted, strict=True)
    return None if any(len(old) > len(new) for old, new in resized) else tuple(fitted)


def _length(dim: tuple[Factor, ...]) -> int:
    return math.prod(factor.size for factor in dim)


def reshape(dims: Dims, shape: Sequence[int]) -> Dims | None:
    """Deals the factors out to the dimensions of a new shape, splitting those that must be.

    >>> kernel = whole((6, 35))
    >>> [len(dim) for dim in reshape(kernel, (6, 5, 7))]
    [1, 1, 1]
    >>> reshape(reshape(kernel, (210,)), (6, 35)) == kernel
    True
    >>> reshape(kernel, (21, 10)) is None  # 21 straddles the two axes
    True
    """
    if 0 in shape:
        return None
    stock = _runs(factor for dim in dims for factor in dim)
    new = []
    for size in shape:
        dim: list[Factor] = []
        while size > 1 or (not dim and stock and stock[0].size == 1):
            first = stock.pop(0)
            if size % first.size == 0:
                dim.append(first)
            elif first.size % size == 0:
                dim.append(first._replace(size=size))
                stock.insert(0, first._replace(size=first.size // size))
            else:
                return None
            size //= dim[-1].size
        new.append(tuple(dim) or (Factor(None, 1),))
    return tuple(new)


def _runs(factors: Iterable[Factor]) -> list[Factor]:
    """Neighbouring factors of one axis as one; those of length one that are no axis left out."""
    runs: list[Factor] = []
    for factor in factors:
        if factor == Factor(None, 1):
            continue
        if runs and runs[-1].axis == factor.axis:
            factor = Factor(factor.axis, runs.pop().size * factor.size)
        runs.append(factor)
    return runs
