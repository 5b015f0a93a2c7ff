"""The rule for operations that combine arrays element by element."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from optax_gc._contractions import AS_INPUT
from optax_gc._dims import Dims, Factor, axis_of_factors, broadcast, weight_dims
from optax_gc._provenance import Provenance, Use, View, not_counted, union, uses_of
from optax_gc._shape_rules import shape_of

if TYPE_CHECKING:
    from jax.extend.core import JaxprEqn

PRIMITIVES = (
    "abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp complex conj cos"
    " cosh div eq erf erf_inv erfc exp exp2 expm1 floor ge gt imag integer_pow is_finite le lgamma"
    " log log1p log2 logistic lt max min mul ne neg nextafter not one_minus_square or pow real rem"
    " round rsqrt select_n sign sin sinh sqrt square sub tan tanh xor"
)
"""The names of the primitives that this rule handles."""

_ADDITIONS = ("add", "add_any", "sub")
_USES = dict.fromkeys(_ADDITIONS, "added") | dict.fromkeys(("mul", "div"), "multiplied")
# A weight that the data multiply is still a kernel after these: they quantize, or are linear.
_LINEAR = (*_ADDITIONS, "mul", "div", "neg")
_QUANTIZING = ("ceil", "clamp", "floor", "max", "min", "round", "select_n", "sign")
# Their output is a gate if all their operands that depend on the data are gates, or always.
_KEEP_GATES = ("mul", "div", "select_n", "and", "or", "not")
_MAKE_GATES = ("logistic", "exp", "eq", "ne", "lt", "le", "gt", "ge")


def elementwise(eqn: JaxprEqn, inputs: Sequence[Provenance]) -> list[Provenance]:
    """Combine arrays element by element.

    The output still holds a view of a weight after arithmetic with constants, with statistics of
    the weight itself and with other weights. After arithmetic with the data it does so only if the
    data scale the weight. It does not either if the weight is broadcast or has one axis, and meets
    a result of other weights: then the weight is a bias or a scale.
    """
    name, shape = eqn.primitive.name, shape_of(eqn.outvars[0])
    lost = f"lost at {name}"
    inputs = [operand.map_dims(lambda dims: broadcast(dims, shape), lost) for operand in inputs]
    views: set[View] = set()
    uses: set[Use] = set()
    for index, (operand, others) in enumerate(_with_others(inputs)):
        for view in operand.views:
            kept, new_uses = _combine(eqn, index, view, others, inputs)
            views |= kept
            uses |= new_uses
    merged = union(inputs)
    # A contraction does not count if its result only rescales the weight, as in `w / sigma`.
    viewed = {view.weight for view in views if view.product is None}
    rescaling = {use for use in merged.uses if use.weight in viewed and _is_statistic(use)}
    return [
        Provenance(
            frozenset(views),
            (merged.uses - rescaling) | not_counted(rescaling) | uses,
            merged.depends_on_data,
            merged.depends_on_data
            and (name in _MAKE_GATES or (name in _KEEP_GATES and merged.is_gate)),
            None if merged.views or merged.uses else _merge_dims(inputs, shape),
        )
    ]


def _with_others(inputs: Sequence[Provenance]) -> Iterator[tuple[Provenance, Provenance]]:
    """Yield each input with the union of the other inputs."""
    for index, operand in enumerate(inputs):
        yield operand, union([*inputs[:index], *inputs[index + 1 :]])


def _combine(
    eqn: JaxprEqn, index: int, view: View, others: Provenance, inputs: Sequence[Provenance]
) -> tuple[set[View], set[Use]]:
    """Return the views and uses that follow from one view in the operand at `index`."""
    name = eqn.primitive.name
    statistics = {use.weight for use in others.uses if _is_statistic(use)}
    rescales = view.weight in statistics and name not in _ADDITIONS
    meets_data = others.depends_on_data and not rescales
    if meets_data and _is_scaled(eqn, index, view, inputs):
        return {view._replace(scaled=view.scaled or _use_of(name))}, set()
    ends = meets_data or (view.scaled and name not in (*_LINEAR, *_QUANTIZING))
    if view.product is not None:
        product = _combine_product(name, view, others, inputs)
        return (set() if ends or product[0] is None else {product[0]}), product[1]
    other_weights = {item.weight for item in others.uses | others.views} - {view.weight}
    if ends or ((view.is_broadcast or len(view.dims) < 2) and other_weights):
        return set(), uses_of([view], _use_of(name))
    return {view}, set()


def _is_scaled(eqn: JaxprEqn, index: int, view: View, inputs: Sequence[Provenance]) -> bool:
    """Return whether the data only scale or mask a kernel, so that it stays a kernel.

    The factor has the shape of the kernel, or is constant along one of its axes. A factor with more
    axes than the weight is multiplied by the weight, and not the weight by it.
    """
    name = eqn.primitive.name
    is_factor = (
        name == "mul" or (name == "div" and index == 0) or (name == "select_n" and index > 0)
    )
    if not is_factor or not view.is_kernel or (view.product and not view.product.of_weights):
        return False
    factors = [item for i, item in enumerate(inputs) if i != index and item.depends_on_data]
    if name == "select_n" and any(i > 0 for i, item in enumerate(inputs) if item in factors):
        return False
    kernel_dims = [dim for dim in range(len(view.dims)) if view.long_axes([dim])]
    return not view.is_broadcast or all(
        any(factor.is_broadcast_at(dim) for dim in kernel_dims) for factor in factors
    )


def _combine_product(
    name: str, view: View, others: Provenance, inputs: Sequence[Provenance]
) -> tuple[View | None, set[Use]]:
    """Return the view of a weight in a product after arithmetic, and the uses that follow.

    A product of weights that is added to a kernel is a part of that kernel (LoRA). If a vector is
    added that varies along the axis of the other weight, then that axis is the output, and this
    weight was the input of a layer.
    """
    assert view.product is not None
    if not view.product.of_weights:
        is_scalar_product = name in (*_LINEAR, *_QUANTIZING) and others.is_constant
        return (view if is_scalar_product else None), set()
    if name not in _ADDITIONS:
        return view, set()
    kernels = [
        other
        for other in others.views
        if other.product is None and other.is_kernel and not other.is_broadcast
    ]
    if any(other.weight != view.weight for other in kernels) or any(
        map(_is_kernel_constant, inputs)
    ):
        return view._replace(product=view.product._replace(merged=True)), set()
    vectors = [other for other in others.views if other.product is None and not other.is_kernel]
    if any(_is_bias_of(vector, view) for vector in vectors):
        return view, {Use(view.weight, AS_INPUT, counted=view.differentiable)}
    return view, set()


def _is_bias_of(vector: View, product: View) -> bool:
    """Return whether a vector varies along the axis that the other weight of a product has."""
    positions = [dim for dim in range(len(vector.dims)) if vector.long_axes([dim])]
    return bool(product.weight_axes(positions)) and not product.long_axes(positions)


def _is_kernel_constant(operand: Provenance) -> bool:
    """Return whether an array can be a frozen kernel: a constant that varies along two axes."""
    if not operand.is_constant or operand.dims is None:
        return False
    return len({axis_of_factors(dim) for dim in operand.dims} - {None}) > 1


def _is_statistic(use: Use) -> bool:
    return use.axes is not None or use.how == "reduced"


def _use_of(name: str) -> str:
    return _USES.get(name, f"lost at {name}")


def _merge_dims(inputs: Sequence[Provenance], shape: tuple[int, ...]) -> Dims | None:
    """Return the dimensions of the output, which varies along an axis if any operand does."""
    if any(operand.dims is None for operand in inputs):
        return None
    varies = weight_dims(shape)
    return tuple(
        varies[position]
        if any(not operand.is_broadcast_at(position) for operand in inputs)
        else (Factor(None, size),)
        for position, size in enumerate(shape)
    )
