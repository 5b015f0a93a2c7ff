"""Rules for matrix products and convolutions, which give the fan-in axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from optax_gc._dims import UNKNOWN_AXIS, Dims, Factor, dim_size
from optax_gc._provenance import Product, Provenance, Use, View, uses_of
from optax_gc._shape_rules import shape_of

if TYPE_CHECKING:
    from jax.extend.core import JaxprEqn

AS_INPUT = "used as an input"
"""The use of a learned input: a weight that other weights multiply as if it were data."""


class _Side(NamedTuple):
    """One operand of a contraction.

    Attributes:
      name: The primitive.
      summed: The dimensions that are contracted.
      batch: The dimensions that both operands have and the output keeps.
      free: The dimensions that only this operand has.
      other: The provenance of the other operand.
      other_sizes: The sizes of the dimensions that only the other operand has.
      is_first: Whether the output has the free dimensions of this operand first.
    """

    name: str
    summed: tuple[int, ...]
    batch: tuple[int, ...]
    free: tuple[int, ...]
    other: Provenance
    other_sizes: tuple[int, ...] = ()
    is_first: bool = True

    @property
    def is_convolution(self) -> bool:
        return self.name.startswith("conv")


def dot_general(eqn, inputs):
    """Return the provenance of the output of `dot_general`."""
    lhs, rhs = inputs
    return [_dot(eqn, lhs, rhs, eqn.params["dimension_numbers"])]


def ragged_dot_general(eqn, inputs):
    """Return the provenance of the output of `ragged_dot_general`."""
    lhs, rhs, group_sizes = inputs
    numbers = eqn.params["ragged_dot_dimension_numbers"].dot_dimension_numbers
    product = _dot(eqn, lhs, rhs, numbers)
    return [product._replace(views=frozenset()) | group_sizes.without_views]


def conv_general_dilated(eqn, inputs):
    """Return the provenance of the output of `conv_general_dilated`."""
    image, kernel = inputs
    out_dim, in_dim, *spatial_dims = eqn.params["dimension_numbers"].rhs_spec
    how = f"lost at {eqn.primitive.name}" if kernel.depends_on_data else AS_INPUT
    side = _Side(eqn.primitive.name, (in_dim, *spatial_dims), (), (out_dim,), image)
    return [image.views_to_uses(how) | _contract(side, kernel)]


def _dot(eqn: JaxprEqn, lhs: Provenance, rhs: Provenance, numbers) -> Provenance:
    (lhs_summed, rhs_summed), (lhs_batch, rhs_batch) = numbers
    name = eqn.primitive.name
    shapes = [shape_of(var) for var in eqn.invars[:2]]
    lhs_free = _remaining(len(shapes[0]), lhs_summed, lhs_batch)
    rhs_free = _remaining(len(shapes[1]), rhs_summed, rhs_batch)
    lhs_sizes = tuple(shapes[0][dim] for dim in lhs_free)
    rhs_sizes = tuple(shapes[1][dim] for dim in rhs_free)
    left = _Side(name, tuple(lhs_summed), tuple(lhs_batch), lhs_free, rhs, rhs_sizes)
    right = _Side(name, tuple(rhs_summed), tuple(rhs_batch), rhs_free, lhs, lhs_sizes, False)
    return _contract(left, lhs) | _contract(right, rhs)


def _remaining(rank: int, *used) -> tuple[int, ...]:
    return tuple(sorted(set(range(rank)).difference(*used)))


def _contract(side: _Side, operand: Provenance) -> Provenance:
    """Return the part of the output's provenance that comes from `operand`."""
    output = operand.without_views._replace(is_gate=False)
    for view in operand.views:
        if view.product is None:
            output |= _contract_view(side, view)
        else:
            output = _contract_product(side, view, output)
    return output


def _contract_view(side: _Side, view: View) -> Provenance:
    """Return the provenance of a contraction's output that comes from one view of a weight."""
    other, name = side.other, side.name
    axes = view.weight_axes(side.summed)
    kept_axes = view.weight_axes((*side.batch, *side.free)) - {UNKNOWN_AXIS}
    kept = [factor for dim in (*side.batch, *side.free) for factor in view.dims[dim]]
    outputs = [factor.axis for factor in kept if factor.size > 1]
    has_one_output = all(axis is None for axis in outputs)
    same = {(v.weight, v.gathered) for v in other.views if v.product is None}
    if UNKNOWN_AXIS in axes:
        how = f"lost at {name}, which sums pieces of it"
    elif axes & kept_axes:
        how = f"lost at {name}, which sums a part of axis {min(axes & kept_axes)}"
    elif (view.weight, view.gathered) in same:
        how = "reduced"  # its norm or its Gram matrix
    elif not other.depends_on_data and (view.gathered or view.is_broadcast or has_one_output):
        how = AS_INPUT
    elif view.gathered and max(side.other_sizes, default=1) > 1 and not kept_axes:
        how = AS_INPUT  # rows of a table that a frozen kernel multiplies
    elif not axes or (has_one_output and outputs) or not _is_kernel_use(side, view):
        how = "multiplied"  # outputs that are no axes of the weight: a diagonal matrix
    else:
        use = Use(
            view.weight,
            name,
            tuple(sorted(axes)),
            other.depends_on_data,
            view.differentiable,
            _out_axes(side, view),
        )
        return Provenance(_products(side, view, use), frozenset([use]))
    return Provenance(uses=frozenset(uses_of([view], how)))


def _out_axes(side: _Side, view: View) -> tuple[int, ...]:
    return tuple(sorted(view.weight_axes(side.free) - {UNKNOWN_AXIS}))


def _is_kernel_use(side: _Side, view: View) -> bool:
    """Return whether a weight that data have scaled is still a kernel here, with an output axis."""
    return not view.scaled or (side.other.depends_on_data and bool(view.long_axes(side.free)))


# Products that can be kernels again: `x @ (w + a @ b)`, mixtures of kernels


def _products(side: _Side, view: View, use: Use) -> frozenset[View]:
    """Return the view of a weight that the output of a contraction holds.

    The result of a contraction with the data is a kernel again only if it has two of the weight's
    axes: data have mixed kernels.
    """
    is_mixture = len(view.long_axes(side.free)) > 1 and not (view.gathered or view.scaled)
    if side.is_convolution or view.gathered or (use.with_data and not is_mixture):
        return frozenset()
    axis = None if use.with_data or use.axes is None else use.axes[0]
    batch: Dims = tuple((Factor(None, dim_size(view.dims[dim])),) for dim in side.batch)
    own = tuple(view.dims[dim] for dim in side.free)
    others: Dims = tuple((Factor(axis, size),) for size in side.other_sizes)
    dims = (*batch, *own, *others) if side.is_first else (*batch, *others, *own)
    return frozenset([view._replace(dims=dims, product=Product(use, side.other.is_gate))])


def _contract_product(side: _Side, view: View, output: Provenance) -> Provenance:
    """Return `output` after the second contraction of a weight.

    The second contraction replaces the first if the first made a kernel. If the first one was of
    weights only, and the second sums the axis of the other weight, then this weight was an input.
    """
    assert view.product is not None
    product, other = view.product, side.other
    first = product.use
    axes = view.weight_axes(side.summed)
    own_axes = axes.difference(first.axes or ())
    if other.depends_on_data and UNKNOWN_AXIS not in axes:
        if product.merged and axes:
            return _replace_use(side, view, output, own_axes or axes)
        if own_axes and _is_kernel(side, view, product):
            return _replace_use(side, view, output, own_axes)
    if side.is_convolution:
        return output
    if product.of_weights and axes and _is_input(side, view, own_axes):
        return output.with_uses([Use(view.weight, AS_INPUT, counted=view.differentiable)])
    return output


def _is_input(side: _Side, view: View, own_axes: set[int]) -> bool:
    """Return whether a weight of a product of weights is the input of the other weight.

    Its own axis is the one of examples: gates sum it, and the next layer does not.
    """
    assert view.product is not None
    if side.other.is_gate:
        return bool(own_axes)
    is_layer = not view.weight_axes(side.free).intersection(view.product.use.axes or ())
    return is_layer and not own_axes


def _is_kernel(side: _Side, view: View, product: Product) -> bool:
    """Return whether a product is used as a kernel: whether its contraction gives the fan-in."""
    if side.is_convolution:
        return True
    if not view.long_axes(side.free):  # no output axis
        return False
    if product.of_weights:
        return True
    is_free = [dim for dim in side.free if dim_size(view.dims[dim]) > 1]
    if side.other.is_gate or not all(view.long_axes([dim]) for dim in is_free):
        return False
    return product.by_gates or all(size == 1 for size in side.other_sizes)


def _replace_use(side: _Side, view: View, output: Provenance, axes: set[int]) -> Provenance:
    """Return `output` with this contraction instead of the first one."""
    assert view.product is not None
    first, is_merged = view.product.use, view.product.merged
    out_axes = set(_out_axes(side, view)) - (set() if is_merged else set(first.axes or ()))
    use = first._replace(
        how=side.name,
        axes=tuple(sorted(axes)),
        with_data=True,
        out_axes=tuple(sorted(out_axes)),
    )
    return output._replace(uses=(output.uses - {first}) | {use})
