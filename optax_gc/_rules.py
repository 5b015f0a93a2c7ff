"""What each primitive does to the weights that its operands hold: a rule per group of them."""

import collections
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from jax.extend.core import JaxprEqn

from optax_gc._provenance import (
    PIECES,
    UNRELATED,
    Dims,
    Factor,
    Use,
    Value,
    farewell,
    fit,
    foreign,
    inserted,
    reshape,
    retire,
    spread,
    union,
)

Rule: TypeAlias = Callable[[JaxprEqn, Sequence[Value]], list[Value]]


def apply(eqn: JaxprEqn, values: Sequence[Value]) -> list[Value]:
    """What is known of an equation's outputs, from what is known of its operands.

    The equation holds no program of its own. A primitive without a rule loses its weights.
    """
    return _RULES.get(eqn.primitive.name, lose)(eqn, values)


def shape_of(var) -> tuple[int, ...]:
    """The shape of a jaxpr's variable; a token's is a scalar's."""
    return getattr(var.aval, "shape", ())


# Contractions: where weights are consumed.


def _consume(eqn: JaxprEqn, value: Value, summed: Iterable[int], other: Value) -> Value:
    """What is left of `value` once its dimensions `summed` are contracted with `other`'s."""
    name, summed = eqn.primitive.name, set(summed)
    uses: set[Use] = set()
    for view in value.views:
        kept = set(range(len(view.dims))) - summed
        axes, left = view.axes(summed), view.axes(kept) - {PIECES}
        outputs = [factor.axis for dim in kept for factor in view.dims[dim] if factor.size > 1]
        one_output = all(axis is None for axis in outputs)
        if PIECES in axes:
            uses |= farewell([view], f"lost at {name}, which sums pieces of it")
        elif axes & left:
            part = min(axes & left)
            uses |= farewell([view], f"lost at {name}, which sums a part of axis {part}")
        elif (view.weight, view.picked) in {(twin.weight, twin.picked) for twin in other.views}:
            uses |= farewell([view], "reduced")  # its norm, its Gram matrix
        elif not other.data and (view.picked or view.copied or one_output):
            uses |= farewell([view], "used as an input")
        elif not axes or (one_output and outputs):  # the latter: a vector made a diagonal matrix
            uses |= farewell([view], "multiplied")
        else:
            uses.add(Use(view.weight, name, tuple(sorted(axes)), other.data, view.live))
    return value.history | Value(uses=frozenset(uses))


def _dot_general(eqn, values):
    lhs, rhs = values
    (lhs_summed, rhs_summed), _ = eqn.params["dimension_numbers"]
    return [_consume(eqn, lhs, lhs_summed, rhs) | _consume(eqn, rhs, rhs_summed, lhs)]


def _ragged_dot_general(eqn, values):
    lhs, rhs, groups = values
    numbers = eqn.params["ragged_dot_dimension_numbers"]
    (lhs_summed, rhs_summed), _ = numbers.dot_dimension_numbers
    product = _consume(eqn, lhs, lhs_summed, rhs) | _consume(eqn, rhs, rhs_summed, lhs)
    return [product | groups.history]


def _conv_general_dilated(eqn, values):
    image, kernel = values
    _, fan_in, *spatial = eqn.params["dimension_numbers"].rhs_spec
    how = f"lost at {eqn.primitive.name}" if kernel.data else "used as an input"
    return [image.lost(how) | _consume(eqn, kernel, (fan_in, *spatial), image)]


# Several arrays into one of the same dimensions.

_VERBS = {
    "add": "added",
    "add_any": "added",
    "div": "multiplied",
    "mul": "multiplied",
    "sub": "added",
}


def _elementwise(eqn, values):
    """A weight survives arithmetic with constants, with its own statistics and with other weights.

    It does not survive data. Nor, where it is spread along new axes or has but one, what other
    weights gave: there it is a bias or a gain.
    """
    lost = f"lost at {eqn.primitive.name}"
    shape = shape_of(eqn.outvars[0])
    values = [value.moved(lambda dims: spread(dims, shape), lost) for value in values]
    result = Value()
    for value, others in _each_and_others(values):
        sources = {x.weight for x in others.uses | others.views}
        statistics = {use.weight for use in others.uses if _is_statistic(use)}
        gone = {
            view
            for view in value.views
            if (others.data and view.weight not in statistics)
            or ((view.copied or len(view.dims) < 2) and sources - {view.weight})
        }
        uses = farewell(gone, _VERBS.get(eqn.primitive.name, lost))
        result |= value.history | Value(value.views - gone, frozenset(uses))
    back = {view.weight for view in result.views}
    returned = {use for use in result.uses if use.weight in back and _is_statistic(use)}
    return [result._replace(uses=(result.uses - returned) | retire(returned))]


def _is_statistic(use: Use) -> bool:
    return use.axes is not None or use.how == "reduced"


def _join(eqn, values):
    """Concatenates weights, pads one, writes one into another; what meets data there is gone."""
    shape = shape_of(eqn.outvars[0])
    result = Value()
    for value, others in _each_and_others(values):
        kept = value.lost("joined to data") if others.data else value
        result |= kept.moved(lambda dims: fit(dims, shape), f"lost at {eqn.primitive.name}")
    return [result]


def _concatenate(eqn, values):
    axis = eqn.params["dimension"]
    return _join(eqn, _as_pieces(values, axis))


def _stack(eqn, values):
    axis = eqn.params["axis"]
    apart = [
        value.moved(lambda dims: inserted(dims, axis, Factor(None, 1)), "") for value in values
    ]
    return _join(eqn, _as_pieces(apart, axis))


def _as_pieces(values, axis):
    """What goes along a new axis, marked as pieces where there are several of one weight."""
    owners = collections.Counter(w for value in values for w in {v.weight for v in value.views})

    def marked(view):
        dim = view.dims[axis]
        if owners[view.weight] < 2 or any(factor.axis is not None for factor in dim):
            return view
        piece = (Factor(PIECES, dim[0].size),)
        return view._replace(dims=(*view.dims[:axis], piece, *view.dims[axis + 1 :]))

    return [value._replace(views=frozenset(map(marked, value.views))) for value in values]


def _each_and_others(values):
    for index, value in enumerate(values):
        yield value, union([*values[:index], *values[index + 1 :]])


# One array rearranged.


def _move(move: Callable[[JaxprEqn, Dims, tuple[int, ...]], Dims | None]) -> Rule:
    """A rule from what happens to the dimensions: the equation, the old ones, the new shape."""

    def rule(eqn, values):
        if len(values) != len(eqn.outvars):
            values = [union(values)] * len(eqn.outvars)
        return [
            value.moved(
                functools.partial(lambda shape, dims: move(eqn, dims, shape), shape_of(var)),
                f"lost at {eqn.primitive.name}",
            )
            for var, value in zip(eqn.outvars, values, strict=True)
        ]

    return rule


def _broadcast_in_dim(eqn, dims, shape):
    new = [*foreign((1,) * len(shape))]
    for dim, axis in zip(dims, eqn.params["broadcast_dimensions"], strict=True):
        new[axis] = dim
    return spread(tuple(new), shape)


def _permuted(dims, permutation):
    return tuple(dims[axis] for axis in permutation)


def _reshape(eqn, dims, shape):
    first = eqn.params.get("dimensions")  # vmap of a convolution transposes on the way
    return reshape(dims if first is None else _permuted(dims, first), shape)


def _tile(eqn, dims, shape):
    repeated = zip(dims, eqn.params["reps"], strict=True)
    return tuple((Factor(None, n), *dim) if n > 1 else dim for dim, n in repeated)


def _dropped(axes: Iterable[int], dims: Dims) -> Dims:
    gone = set(axes)
    return tuple(dim for axis, dim in enumerate(dims) if axis not in gone)


def _all_gather(eqn, dims, shape):
    if not eqn.params["tiled"]:
        axis = eqn.params["all_gather_dimension"]
        dims = inserted(dims, axis, Factor(PIECES, shape[axis]))
    return fit(dims, shape)


# Parts of an array picked by an index.


def _picked(value: Value) -> Value:
    """The same; whatever else becomes of its weights, they are gathered."""
    views = frozenset(view._replace(picked=True) for view in value.views)
    return value.lost("gathered")._replace(views=views)


def _dynamic_slice(eqn, values):
    operand, *starts = values
    shape = shape_of(eqn.outvars[0])
    operand = operand.moved(lambda dims: fit(dims, shape), "lost at dynamic_slice")
    start = union(starts)
    return [(_picked(operand) if start.data else operand) | start.history]


def _gather(eqn, values):
    operand, indices = values
    numbers = eqn.params["dimension_numbers"]
    shape = shape_of(eqn.outvars[0])
    collapsed, batching = numbers.collapsed_slice_dims, numbers.operand_batching_dims
    rows = [dim for dim in range(len(shape)) if dim not in numbers.offset_dims]
    batch_rows = [rows[dim] for dim in numbers.start_indices_batching_dims]
    free_rows = [row for row in rows if row not in batch_rows]

    def move(dims):
        new: list[tuple[Factor, ...]] = [(Factor(PIECES, size),) for size in shape]
        slices = _dropped((*collapsed, *batching), dims)
        for position, dim in zip(numbers.offset_dims, slices, strict=True):
            new[position] = dim
        for row, dim in zip(batch_rows, batching, strict=True):
            new[row] = dims[dim]
        if len(free_rows) == len(collapsed) == 1 and not indices.data:  # a choice along one axis
            new[free_rows[0]] = dims[collapsed[0]]
        return fit(tuple(new), shape)

    rows_of = operand.moved(move, "lost at gather")
    is_slice = not free_rows and not indices.data
    return [(rows_of if is_slice else _picked(rows_of)) | indices.history]


# Operations that end what can be said.


def _swallow(how: str) -> Rule:
    return lambda eqn, values: [union(values).lost(how)] * len(eqn.outvars)


def lose(eqn: JaxprEqn, values: Sequence[Value]) -> list[Value]:
    """Says at which primitive the weights were lost."""
    return _swallow(f"lost at {eqn.primitive.name}")(eqn, values)


def _noise(eqn, values):
    return [UNRELATED] * len(eqn.outvars)


def _stop_gradient(eqn, values):
    return [value.detached() for value in values]


def _table(*groups: tuple[str, Rule]) -> dict[str, Rule]:
    return {name: rule for names, rule in groups for name in names.split()}


_RULES = _table(
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
        "convert_element_type copy device_put layout_constraint name optimization_barrier pmax"
        " pmin psum psum_invariant pvary reduce_precision relayout reshard rev"
        " sharding_constraint slice split with_memory_space_constraint",
        _move(lambda eqn, dims, shape: fit(dims, shape)),
    ),
    ("broadcast_in_dim", _move(_broadcast_in_dim)),
    ("tile", _move(_tile)),
    ("reshape", _move(_reshape)),
    ("squeeze", _move(lambda eqn, dims, shape: _dropped(eqn.params["dimensions"], dims))),
    ("unstack", _move(lambda eqn, dims, shape: _dropped([eqn.params["axis"]], dims))),
    ("transpose", _move(lambda eqn, dims, shape: _permuted(dims, eqn.params["permutation"]))),
    ("all_gather all_gather_invariant", _move(_all_gather)),
    ("dynamic_slice", _dynamic_slice),
    ("gather", _gather),
    (
        "argmax argmin cumlogsumexp cummax cummin cumprod cumsum reduce_and reduce_max reduce_min"
        " reduce_or reduce_prod reduce_sum reduce_xor",
        _swallow("reduced"),
    ),
    ("random_bits rng_bit_generator rng_uniform threefry2x32", _noise),
    ("stop_gradient", _stop_gradient),
)
