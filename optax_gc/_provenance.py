"""The abstract value of `infer_axes`: how each array depends on the weights and on the data."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from optax_gc._dims import Dims


class View(NamedTuple):
    """A weight as an array holds it, for example transposed, reshaped, sliced or rescaled."""

    weight: int  # index of the leaf in params
    dims: Dims
    differentiable: bool = True  # whether a gradient flows back through it
    gathered: bool = False  # taken by an array of indices, or by an index that depends on the data

    @property
    def is_broadcast(self) -> bool:
        """Whether a dimension contains a factor that is not an axis of the weight."""
        return any(factor.axis is None for dim in self.dims for factor in dim)

    def weight_axes(self, positions: Iterable[int]) -> set[int]:
        """Return the weight's axes that are in the dimensions at `positions`."""
        factors = (factor for position in positions for factor in self.dims[position])
        return {factor.axis for factor in factors if factor.axis is not None}


class Use(NamedTuple):
    """An operation after which an array depends on a weight and no longer holds a view of it."""

    weight: int  # index of the leaf in params
    how: str  # the primitive of a contraction; otherwise a participle or "lost at ..."
    axes: tuple[int, ...] | None = None  # the contracted axes; None if it is not a contraction
    with_data: bool = False  # contracted with an array that depends on the data
    counted: bool = True  # False without a gradient, in a backward pass, or if it only rescales


class Provenance(NamedTuple):
    """How one array depends on the weights and on the data."""

    views: frozenset[View] = frozenset()
    uses: frozenset[Use] = frozenset()
    depends_on_data: bool = False

    def __or__(self, other: "Provenance") -> "Provenance":  # type: ignore[override]
        return Provenance(
            self.views | other.views,
            self.uses | other.uses,
            self.depends_on_data or other.depends_on_data,
        )

    @property
    def without_views(self) -> "Provenance":
        """The same provenance without views."""
        return self._replace(views=frozenset())

    def without_gradient(self) -> "Provenance":
        """Return this provenance after a `stop_gradient`."""
        return Provenance(
            frozenset(view._replace(differentiable=False) for view in self.views),
            not_counted(self.uses),
            self.depends_on_data,
        )

    def views_to_uses(self, how: str) -> "Provenance":
        """Return this provenance after an operation that replaces each view by a use."""
        return self.without_views | Provenance(uses=frozenset(uses_of(self.views, how)))

    def map_dims(self, fn: Callable[[Dims], Dims | None], how: str) -> "Provenance":
        """Apply `fn` to the dimensions of each view. If it returns None, the view becomes a use."""
        kept, dropped = set(), set()
        for view in self.views:
            dims = fn(view.dims)
            if dims is None:
                dropped.add(view)
            else:
                kept.add(view._replace(dims=dims))
        uses = Provenance(frozenset(dropped)).views_to_uses(how)
        return self.without_views | Provenance(frozenset(kept)) | uses


INDEPENDENT = Provenance()
"""The provenance of constants and random noise: no weights and no data."""


def union(provenances: Iterable[Provenance]) -> Provenance:
    """Return the union of several provenances."""
    result = Provenance()
    for provenance in provenances:
        result |= provenance
    return result


def uses_of(views: Iterable[View], how: str) -> set[Use]:
    """Return the uses that replace `views`. A gathered view already has its use."""
    return {
        Use(view.weight, how, counted=view.differentiable) for view in views if not view.gathered
    }


def not_counted(uses: Iterable[Use]) -> frozenset[Use]:
    """Return the uses, marked as not counted."""
    return frozenset(use._replace(counted=False) for use in uses)
