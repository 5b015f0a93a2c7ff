"""The abstract value of `infer_axes`: how each array depends on the weights and on the data."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from optax_gc._dims import Dims, axis_of_factors


class Use(NamedTuple):
    """An operation after which an array depends on a weight and no longer holds a view of it."""

    weight: int  # index of the leaf in params
    how: str  # the primitive of a contraction; otherwise a participle or "lost at ..."
    axes: tuple[int, ...] | None = None  # the contracted axes; None if it is not a contraction
    with_data: bool = False  # contracted with an array that depends on the data
    counted: bool = True  # False without a gradient, in a backward pass, or if it only rescales
    out_axes: tuple[int, ...] = ()  # the axes that only the output of the contraction has


class Product(NamedTuple):
    """The contraction that a view has passed, if its result can be a kernel again."""

    use: Use
    by_gates: bool  # the other operand was the output of a softmax, a sigmoid or a comparison
    merged: bool = False  # the product was added to a kernel

    @property
    def of_weights(self) -> bool:
        """Whether the other operand did not depend on the data."""
        return not self.use.with_data


class View(NamedTuple):
    """A weight as an array holds it, for example transposed, reshaped, sliced or rescaled.

    After a contraction of weights only, a dimension that comes from the other weight has the
    contracted axis: along it, the array varies with that axis through the other weight.
    """

    weight: int  # index of the leaf in params
    dims: Dims
    differentiable: bool = True  # whether a gradient flows back through it
    gathered: bool = False  # taken by an array of indices, or by an index that depends on the data
    scaled: str = ""  # the use, if data multiply it and no contraction with data follows
    product: Product | None = None

    @property
    def is_broadcast(self) -> bool:
        """Whether a dimension contains a factor that is not an axis of the weight."""
        return any(factor.axis is None for dim in self.dims for factor in dim)

    @property
    def is_kernel(self) -> bool:
        """Whether two or more axes of the weight are dimensions of the array."""
        return len(self.long_axes(range(len(self.dims)))) > 1

    def weight_axes(self, positions: Iterable[int]) -> set[int]:
        """Return the weight's axes that are in the dimensions at `positions`."""
        factors = (factor for position in positions for factor in self.dims[position])
        return {factor.axis for factor in factors if factor.axis is not None}

    def long_axes(self, positions: Iterable[int]) -> set[int]:
        """Return the weight's axes of more than one element at `positions`.

        Axes that a contraction has summed do not count.
        """
        summed = self.product.use.axes or () if self.product else ()
        factors = (factor for position in positions for factor in self.dims[position])
        axes = {factor.axis for factor in factors if factor.size > 1}
        return {axis for axis in axes if axis is not None and axis not in summed}


class Provenance(NamedTuple):
    """How one array depends on the weights and on the data."""

    views: frozenset[View] = frozenset()
    uses: frozenset[Use] = frozenset()
    depends_on_data: bool = False
    is_gate: bool = False  # data from a softmax, a sigmoid or a comparison
    dims: Dims | None = None  # of an array without views: broadcast dimensions have no axis

    def __or__(self, other: "Provenance") -> "Provenance":  # type: ignore[override]
        return Provenance(
            self.views | other.views,
            self.uses | other.uses,
            self.depends_on_data or other.depends_on_data,
            (self.is_gate or not self.depends_on_data)
            and (other.is_gate or not other.depends_on_data)
            and (self.is_gate or other.is_gate),
            self.dims if self.dims == other.dims else None,
        )

    @property
    def without_views(self) -> "Provenance":
        """The same provenance without views."""
        return self._replace(views=frozenset(), dims=None)

    @property
    def is_constant(self) -> bool:
        """Whether the array depends on no weight and on no data."""
        return not (self.views or self.uses or self.depends_on_data)

    def is_broadcast_at(self, position: int) -> bool:
        """Return whether the array, which has no views, is constant along a dimension."""
        return self.dims is not None and axis_of_factors(self.dims[position]) is None

    def without_gradient(self) -> "Provenance":
        """Return this provenance after a `stop_gradient`."""
        return self._replace(
            views=frozenset(view._replace(differentiable=False) for view in self.views),
            uses=not_counted(self.uses),
        )

    def views_to_uses(self, how: str) -> "Provenance":
        """Return this provenance after an operation that replaces each view by a use."""
        return self.without_views.with_uses(uses_of(self.views, how))

    def with_uses(self, uses: Iterable[Use]) -> "Provenance":
        """Return this provenance with more uses."""
        return self._replace(uses=self.uses.union(uses))

    def map_dims(self, fn: Callable[[Dims], Dims | None], how: str) -> "Provenance":
        """Apply `fn` to the dimensions of each view. If it returns None, the view becomes a use."""
        dims = None if self.dims is None else fn(self.dims)
        if not self.views:
            return self._replace(dims=dims)
        kept, dropped = set(), set()
        for view in self.views:
            new_dims = fn(view.dims)
            if new_dims is None:
                dropped.add(view)
            else:
                kept.add(view._replace(dims=new_dims))
        return self._replace(views=frozenset(kept), dims=dims).with_uses(uses_of(dropped, how))


INDEPENDENT = Provenance()
"""The provenance of constants and random noise: no weights and no data."""


def union(provenances: Iterable[Provenance]) -> Provenance:
    """Return the union of several provenances."""
    provenances = list(provenances)
    if not provenances:
        return INDEPENDENT
    first, *rest = provenances
    data = [item for item in provenances if item.depends_on_data]
    return Provenance(
        first.views.union(*(item.views for item in rest)),
        first.uses.union(*(item.uses for item in rest)),
        bool(data),
        bool(data) and all(item.is_gate for item in data),
        first.dims if all(item.dims == first.dims for item in rest) else None,
    )


def uses_of(views: Iterable[View], how: str) -> set[Use]:
    """Return the uses that replace `views`. Gathered views and products already have theirs."""
    return {
        Use(view.weight, view.scaled or how, counted=view.differentiable)
        for view in views
        if not view.gathered and view.product is None
    }


def not_counted(uses: Iterable[Use]) -> frozenset[Use]:
    """Return the uses, marked as not counted."""
    return frozenset(use._replace(counted=False) for use in uses)
