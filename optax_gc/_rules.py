"""Rules that give the provenance of an equation's outputs, one per group of primitives."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from optax_gc._dims import UNKNOWN_AXIS, Factor, broadcast, insert_dim, resize
from optax_gc._provenance import INDEPENDENT, Provenance, Use, View, not_counted, union, uses_of
from optax_gc._shape_rules import SHAPE_RULES, Rule, shape_of

if TYPE_CHECKING:
    from jax.extend.core import JaxprEqn


def apply_rule(eqn: JaxprEqn, inputs: Sequence[Provenance]) -> list[Provenance]:
    """Return the provenance of the outputs of an equation without sub-jaxprs.

    If there is no rule for the primitive, the views become uses that say so.
    """
    return _RULES.get(eqn.primitive.name, lose_views)(eqn, inputs)


def lose_views(eqn: JaxprEqn, inputs: Sequence[Provenance]) -> list[Provenance]:
    """Turn all views into uses that say that the primitive has no rule."""
    return end_views(f"lost at {eqn.primitive.name}, which infer_axes does not follow")(eqn, inputs)


def end_views(how: str) -> Rule:
    """Return the rule that turns all views into uses named `how`."""
    return lambda eqn, inputs: [union(inputs).views_to_uses(how)] * len(eqn.outvars)


# Contractions


def _contract(
    eqn: JaxprEqn, operand: Provenance, summed: Iterable[int], other: Provenance
) -> Provenance:
    """Return the part of the output's provenance that comes from `operand`.

    Args:
      eqn: The contraction.
      operand: The provenance of one operand.
      summed: The dimensions of the operand that are contracted.
      other: The provenance of the other operand.
    """
    name, summed = eqn.primitive.name, set(summed)
    uses: set[Use] = set()
    for view in operand.views:
        kept = set(range(len(view.dims))) - summed
        axes, kept_axes = view.weight_axes(summed), view.weight_axes(kept) - {UNKNOWN_AXIS}
        outputs = [factor.axis for dim in kept for factor in view.dims[dim] if factor.size > 1]
        has_one_output = all(axis is None for axis in outputs)
        if UNKNOWN_AXIS in axes:
            uses |= uses_of([view], f"lost at {name}, which sums pieces of it")
        elif axes & kept_axes:
            axis = min(axes & kept_axes)
            uses |= uses_of([view], f"lost at {name}, which sums a part of axis {axis}")
        elif (view.weight, view.gathered) in {(v.weight, v.gathered) for v in other.views}:
            uses |= uses_of([view], "reduced")  # its norm or its Gram matrix
        elif not other.depends_on_data and (view.gathered or view.is_broadcast or has_one_output):
            uses |= uses_of([view], "used as an input")
        elif not axes or (has_one_output and outputs):  # the second case is a diagonal matrix
            uses |= uses_of([view], "multiplied")
        else:
            contracted = tuple(sorted(axes))
            uses.add(Use(view.weight, name, contracted, other.depends_on_data, view.differentiable))
    return operand.without_views | Provenance(uses=frozenset(uses))


def _dot_general(eqn, inputs):
    lhs, rhs = inputs
    (lhs_summed, rhs_summed), _ = eqn.params["dimension_numbers"]
    return [_contract(eqn, lhs, lhs_summed, rhs) | _contract(eqn, rhs, rhs_summed, lhs)]


def _ragged_dot_general(eqn, inputs):
    lhs, rhs, group_sizes = inputs
    numbers = eqn.params["ragged_dot_dimension_numbers"]
    (lhs_summed, rhs_summed), _ = numbers.dot_dimension_numbers
    product = _contract(eqn, lhs, lhs_summed, rhs) | _contract(eqn, rhs, rhs_summed, lhs)
    return [product | group_sizes.without_views]


def _conv_general_dilated(eqn, inputs):
    image, kernel = inputs
    _, in_dim, *spatial_dims = eqn.params["dimension_numbers"].rhs_spec
    how = f"lost at {eqn.primitive.name}" if kernel.depends_on_data else "used as an input"
    return [image.views_to_uses(how) | _contract(eqn, kernel, (in_dim, *spatial_dims), image)]


# Elementwise operations

_ELEMENTWISE_USES = {
    "add": "added",
    "add_any": "added",
    "div": "multiplied",
    "mul": "multiplied",
    "sub": "added",
}


def _elementwise(eqn, inputs):
    """Combine arrays element by element.

    The output still holds a view of a weight after arithmetic with constants, with statistics of
    the weight itself and with other weights, but not after arithmetic with the data. It does not
    either if the weight is broadcast or has one axis, and meets a result of other weights: then the
    weight is a bias or a scale.
    """
    lost = f"lost at {eqn.primitive.name}"
    how = _ELEMENTWISE_USES.get(eqn.primitive.name, lost)
    shape = shape_of(eqn.outvars[0])
    inputs = [operand.map_dims(lambda dims: broadcast(dims, shape), lost) for operand in inputs]
    output = Provenance()
    for operand, others in _with_others(inputs):
        other_weights = {item.weight for item in others.uses | others.views}
        with_statistics = {use.weight for use in others.uses if _is_statistic(use)}
        ended = {
            view
            for view in operand.views
            if (others.depends_on_data and view.weight not in with_statistics)
            or ((view.is_broadcast or len(view.dims) < 2) and other_weights - {view.weight})
        }
        uses = frozenset(uses_of(ended, how))
        output |= operand.without_views | Provenance(operand.views - ended, uses)
    # A contraction does not count if its result only rescales the weight, as in `w / sigma`.
    viewed = {view.weight for view in output.views}
    rescaling = {use for use in output.uses if use.weight in viewed and _is_statistic(use)}
    return [output._replace(uses=(output.uses - rescaling) | not_counted(rescaling))]


def _is_statistic(use: Use) -> bool:
    return use.axes is not None or use.how == "reduced"


# Operations that write several arrays side by side


def _join(eqn, inputs):
    """Concatenate or pad weights, or write one into another. A weight joined to data is lost."""
    shape = shape_of(eqn.outvars[0])
    lost = f"lost at {eqn.primitive.name}"
    output = Provenance()
    for operand, others in _with_others(inputs):
        kept = operand.views_to_uses("joined to data") if others.depends_on_data else operand
        output |= kept.map_dims(lambda dims: resize(dims, shape), lost)
    return [output]


def _concatenate(eqn, inputs):
    return _join(eqn, _mark_stacked(inputs, eqn.params["dimension"]))


def _stack(eqn, inputs):
    position = eqn.params["axis"]
    expanded = [
        operand.map_dims(lambda dims: insert_dim(dims, position, Factor(None, 1)), "")
        for operand in inputs
    ]
    return _join(eqn, _mark_stacked(expanded, position))


def _mark_stacked(inputs: Sequence[Provenance], position: int) -> list[Provenance]:
    """Mark the dimension at `position` as an unknown axis if slices of one weight are stacked."""
    counts = collections.Counter(
        weight for operand in inputs for weight in {view.weight for view in operand.views}
    )

    def mark(view: View) -> View:
        dim = view.dims[position]
        if counts[view.weight] < 2 or any(factor.axis is not None for factor in dim):
            return view
        unknown = (Factor(UNKNOWN_AXIS, dim[0].size),)
        return view._replace(dims=(*view.dims[:position], unknown, *view.dims[position + 1 :]))

    return [operand._replace(views=frozenset(map(mark, operand.views))) for operand in inputs]


def _with_others(inputs: Sequence[Provenance]) -> Iterator[tuple[Provenance, Provenance]]:
    """Yield each input with the union of the other inputs."""
    for index, operand in enumerate(inputs):
        yield operand, union([*inputs[:index], *inputs[index + 1 :]])


# Other operations


def _random(eqn, inputs):
    return [INDEPENDENT] * len(eqn.outvars)


def _stop_gradient(eqn, inputs):
    return [operand.without_gradient() for operand in inputs]


def _by_primitive(*groups: tuple[str, Rule]) -> dict[str, Rule]:
    return {name: rule for names, rule in groups for name in names.split()}


_RULES = SHAPE_RULES | _by_primitive(
    ("dot_general", _dot_general),
    ("ragged_dot_general", _ragged_dot_general),
    ("conv_general_dilated", _conv_general_dilated),
    (
        "abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp complex conj"
        " cos cosh div eq erf erf_inv erfc exp exp2 expm1 floor ge gt imag integer_pow is_finite"
        " le lgamma log log1p log2 logistic lt max min mul ne neg nextafter not"
        " one_minus_square or pow real rem round rsqrt select_n sign sin sinh sqrt square sub tan"
        " tanh xor",
        _elementwise,
    ),
    ("concatenate", _concatenate),
    ("pad dynamic_update_slice scatter scatter-add scatter-mul", _join),
    ("stack", _stack),
    (
        "argmax argmin cumlogsumexp cummax cummin cumprod cumsum reduce_and reduce_max reduce_min"
        " reduce_or reduce_prod reduce_sum reduce_xor",
        end_views("reduced"),
    ),
    ("random_bits rng_bit_generator rng_uniform threefry2x32", _random),
    ("stop_gradient", _stop_gradient),
)
