"""Rules that give the provenance of an equation's outputs, one per group of primitives."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import TYPE_CHECKING

from optax_gc import _contractions, _elementwise
from optax_gc._dims import UNKNOWN_AXIS, Factor, insert_dim, resize
from optax_gc._provenance import INDEPENDENT, Provenance, View, union
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


# Operations that write several arrays side by side


def _join(eqn, inputs):
    """Concatenate or pad weights, or write one into another. A weight joined to data is lost."""
    shape = shape_of(eqn.outvars[0])
    lost = f"lost at {eqn.primitive.name}"
    data_count = sum(operand.depends_on_data for operand in inputs)
    parts = []
    for operand in inputs:
        joins_data = data_count > operand.depends_on_data
        kept = operand.views_to_uses("joined to data") if joins_data else operand
        parts.append(kept.map_dims(lambda dims: resize(dims, shape), lost))
    return [union(parts)._replace(dims=None)]


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


# Other operations


def _random(eqn, inputs):
    return [INDEPENDENT] * len(eqn.outvars)


def _stop_gradient(eqn, inputs):
    return [operand.without_gradient() for operand in inputs]


def _by_primitive(*groups: tuple[str, Rule]) -> dict[str, Rule]:
    return {name: rule for names, rule in groups for name in names.split()}


_RULES = SHAPE_RULES | _by_primitive(
    ("dot_general", _contractions.dot_general),
    ("ragged_dot_general", _contractions.ragged_dot_general),
    ("conv_general_dilated", _contractions.conv_general_dilated),
    (_elementwise.PRIMITIVES, _elementwise.elementwise),
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
