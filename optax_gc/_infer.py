"""`infer_axes`: find the fan-in axes from the traced computation."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar, overload

import jax

from optax_gc._arguments import (
    check_data_argnums,
    check_not_closed_over,
    check_unwrapped,
    is_array,
    is_weight,
    possible_weights,
    trace,
)
from optax_gc._contractions import AS_INPUT
from optax_gc._dims import weight_dims
from optax_gc._interpreter import interpret, open_jaxpr
from optax_gc._layouts import FanIn
from optax_gc._plan import path_name
from optax_gc._provenance import Provenance, Use, View, union
from optax_gc._version import __version__

_AMBIGUOUS = "ambiguous"
_USES_OF_INPUTS = (AS_INPUT, "added", "gathered", "joined to data")
"""Uses that show that a weight is an input, if only other weights are contracted with it."""


_Params = TypeVar("_Params")


class _Array(Protocol):
    """A single weight: an array or a `jax.ShapeDtypeStruct`."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...


@overload
def infer_axes(
    fn: Callable[..., Any],
    params: _Array,
    *args: Any,
    data_argnums: int | Sequence[int] | None = None,
    raise_if_ambiguous: bool = False,
    **kwargs: Any,
) -> FanIn: ...
@overload
def infer_axes(
    fn: Callable[..., Any],
    params: dict[str, Any],
    *args: Any,
    data_argnums: int | Sequence[int] | None = None,
    raise_if_ambiguous: bool = False,
    **kwargs: Any,
) -> dict[str, Any]: ...
@overload
def infer_axes(
    fn: Callable[..., Any],
    params: _Params,
    *args: Any,
    data_argnums: int | Sequence[int] | None = None,
    raise_if_ambiguous: bool = False,
    **kwargs: Any,
) -> _Params: ...
def infer_axes(
    fn: Callable[..., Any],
    params: Any,
    *args: Any,
    data_argnums: int | Sequence[int] | None = None,
    raise_if_ambiguous: bool = False,
    **kwargs: Any,
) -> Any:
    """Return the fan-in axes of every weight, found from the contraction of `fn` that uses it.

    `fn(params, *args, **kwargs)` is traced and not run. Each weight is followed to the matrix
    product or convolution that uses it. The axes that are summed there are its fan-in axes, so they
    are exact for any model and any layout.

    A weight is followed through casts, transposes, reshapes, slices and concatenation; through
    functions of the weight alone, and arithmetic with constants, random noise, statistics of the
    weight itself and other weights; through scales and masks that depend on the data, which
    quantize, prune or modulate a kernel; and through `jit`, `remat`, `scan`, `while`, `cond`,
    `vmap`, `shard_map` and custom derivatives. If a weight is used more than once, these rules
    apply:

    - A contraction with the *data* takes precedence over contractions with weights and constants
      only. Arrays that `fn` closes over are constants, unless `args` and `kwargs` contain no
      arrays: then they are the data.
    - The axes are those of the gradient, in whatever order `fn` multiplies. In `x @ (w + a @ b)`,
      as in `x @ w + x @ a @ b`, `a` is contracted along the input and `b` along the rank. In a
      mixture of kernels, `einsum("be,eio->bio", gates, w)`, the axis of the experts, `e`, is not a
      fan-in axis.
    - A contraction is ignored if no gradient flows back through it (`stop_gradient`, `argmax`), or
      if its result only rescales the weight itself (the sigma in `w / sigma`). It counts only if
      the weight has no other use.
    - A contraction takes precedence over all other uses: a table that is both gathered and
      contracted (tied embeddings) has the axes of the contraction.

    Nothing is guessed. These weights are left alone, and their note gives the reason:

    - A weight that is only gathered, added or multiplied elementwise.
    - A learned input, such as the queries of a decoder. It is recognized by two signs. It is
      contracted with weights and constants only. And either it is broadcast, or it has no remaining
      axis of more than one element, or it meets the data in another way, or the layer that
      multiplies it has a bias or a next layer with the output axis.
    - A weight that is passed to an unknown operation (also to one that a newer JAX has changed), or
      to a contraction that sums only a part of one of its axes.
    - A weight that only a gradient inside `fn` contracts: the last layer in a loss of derivatives.
    - An ambiguous weight: two contractions that count sum different axes of it, as in an
      autoencoder with tied weights. Put `stop_gradient` around one use, or replace its `FanIn`.

    **Frozen weights.** Some arguments hold weights that are not trained: the non-trainable
    variables of Keras, or the rest of an NNX module. They are not data. Name the data with
    `data_argnums`. By default, the last argument, all keyword arguments and all single arrays are
    data. Another argument is a tree of weights if one of its arrays has another number of rows than
    the data. If a weight is contracted with weights only, and a single array would change its axes,
    the weight is left alone.

    Args:
      fn: The model or its loss. Uses that do not reach its output do not count.
      params: The weights, as a pytree of arrays or `jax.ShapeDtypeStruct`s. Leaves that are not
        arrays (such as the functions in an Equinox module) are static.
      *args: The other positional arguments of `fn`, also pytrees. Python numbers, strings, booleans
        and functions in them are static.
      data_argnums: The positions of the data among the arguments of `fn`, where 0 is `params`. The
        other arguments are frozen weights. `None` decides from the shapes.
      raise_if_ambiguous: Whether to raise an error if a weight is ambiguous.
      **kwargs: The keyword arguments of `fn`, treated like `args`; their arrays are data.

    Returns:
      A pytree with the structure of `params` and a `FanIn` for every leaf. Its `op` is the name of
      the contraction's primitive, and its `out_axes` are the output axes. Its `note` says why a
      leaf is left alone.

    Raises:
      TypeError: If `params` holds objects in which arrays are wrapped, such as the variables of
        Keras.
      ValueError: If `fn` cannot be traced with these arguments; if it uses no weight of `params`
        and closes over others; if `data_argnums` is out of range; or if a weight is ambiguous and
        `raise_if_ambiguous` is true. The message names the weight.
      NotImplementedError: If the installed JAX is so new that its jaxprs cannot be read.

    Examples:
      >>> import jax, jax.numpy as jnp, optax_gc
      >>> def model(params, x):
      ...   return x @ params["w"].T + params["b"]
      >>> params = {"w": jnp.zeros((7, 5)), "b": jnp.zeros(7)}
      >>> optax_gc.infer_axes(model, params, jax.ShapeDtypeStruct((5,), jnp.float32))
      {'b': FanIn((), note='only added'), 'w': FanIn((1,), op='dot_general')}

    References:
      Yong et al., Gradient Centralization: A New Optimization Technique for Deep Neural Networks,
      ECCV 2020, https://arxiv.org/abs/2004.01461
    """
    paths_and_leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    check_unwrapped(paths_and_leaves)
    jaxpr = trace(fn, params, args, kwargs)
    leaves = [leaf for _, leaf in paths_and_leaves]

    def find(frozen: Iterable[int]) -> list[list[Use]]:
        found = _find_uses(jaxpr, leaves, args, set(frozen))
        if frozen and data_argnums is None and not any(_meets_data(use) for use in found):
            return find([])  # without these arguments there are no data
        uses: list[list[Use]] = [[] for _ in leaves]
        for use in found:
            uses[use.weight].append(use)
        return uses

    if data_argnums is None:
        trees, arrays = possible_weights(args, kwargs)
        uses = find(trees)
        fan_ins = list(map(_choose_fan_in, leaves, uses))
        if arrays and any(map(_is_uncertain, uses)):
            others = map(_choose_fan_in, leaves, find([*trees, *arrays]))
            fan_ins = list(map(_agreed, uses, fan_ins, others))
    else:
        data = check_data_argnums(data_argnums, len(args))
        uses = find([position for position in range(len(args)) if position not in data])
        fan_ins = list(map(_choose_fan_in, leaves, uses))
    if not any(uses):
        check_not_closed_over(jaxpr, leaves)
    if raise_if_ambiguous:
        _raise_if_ambiguous(paths_and_leaves, fan_ins)
    return jax.tree.unflatten(structure, fan_ins)


def _find_uses(
    jaxpr: Any, leaves: Sequence[Any], args: Sequence[Any], frozen: set[int]
) -> set[Use]:
    """Return all uses of weights that reach an output of a traced function.

    Args:
      jaxpr: The jaxpr, whose inputs are the arrays in `leaves`, `args` and keyword arguments.
      leaves: The leaves of the parameters.
      args: The positional arguments.
      frozen: The positions in `args` of frozen weights, which are no data.
    """
    inputs = [
        Provenance(frozenset([View(index, weight_dims(leaf.shape))]))
        if is_weight(leaf)
        else Provenance()
        for index, leaf in enumerate(leaves)
        if is_array(leaf)
    ]
    for position, arg in enumerate(args):
        arrays = [leaf for leaf in jax.tree.leaves(arg) if is_array(leaf)]
        inputs += [Provenance(depends_on_data=position not in frozen)] * len(arrays)
    try:
        n_keywords = len(open_jaxpr(jaxpr).invars) - len(inputs)
        inputs += [Provenance(depends_on_data=True)] * n_keywords
        has_data = any(item.depends_on_data for item in inputs)
        outputs = interpret(jaxpr, inputs, Provenance(depends_on_data=not has_data))
    except AttributeError as error:  # an attribute of jaxprs was renamed
        raise NotImplementedError(
            f"infer_axes of optax_gc {__version__} cannot read the jaxprs of JAX "
            f"{jax.__version__}: {error}. Install a newer optax_gc or an older JAX, or use a rule "
            "such as optax_gc.by_name"
        ) from error
    output = union(outputs)
    return set(output.uses | output.views_to_uses("returned").uses)


def _meets_data(use: Use) -> bool:
    return use.with_data or use.how in ("gathered", "joined to data")


def _choose_fan_in(leaf: Any, uses: Sequence[Use]) -> FanIn:
    if not is_weight(leaf):
        return FanIn((), note="not an array of floating-point numbers")
    uses = [use for use in uses if use.counted] or uses
    contractions = [use for use in uses if use.axes is not None]
    with_data = [use for use in contractions if use.with_data]
    is_input = any(use.how in _USES_OF_INPUTS for use in uses)
    if with_data or (contractions and not is_input):
        return _common_fan_in(with_data or contractions)
    if not uses:
        return FanIn((), note="never used")
    kinds = sorted({use.how for use in uses if use.axes is None} - {"reduced"}) or ["reduced"]
    lost = [kind for kind in kinds if kind.startswith("lost")]
    return FanIn((), note=lost[0] if lost else f"only {' and '.join(kinds)}")


def _common_fan_in(contractions: Sequence[Use]) -> FanIn:
    found = sorted({(use.axes or (), use.how) for use in contractions})
    if len({axes for axes, _ in found}) > 1:
        candidates = " and ".join(f"{how} over axes {axes}" for axes, how in found)
        return FanIn((), note=f"{_AMBIGUOUS}: it is used by {candidates}")
    axes, how = found[0]
    out_axes = set.intersection(*(set(use.out_axes) for use in contractions))
    return FanIn(axes, how, out_axes=tuple(sorted(out_axes)))


def _is_uncertain(uses: Sequence[Use]) -> bool:
    """Return whether a weight is contracted with weights and constants only."""
    contractions = [use for use in uses if use.axes is not None and use.counted]
    return bool(contractions) and not any(use.with_data for use in contractions)


def _agreed(uses: Sequence[Use], data: FanIn, weights: FanIn) -> FanIn:
    """Return the fan-in of a weight, for arguments that are data or frozen weights."""
    if data == weights or not _is_uncertain(uses):
        return data
    note = f"{_AMBIGUOUS}: an argument is data or frozen weights; give data_argnums"
    return FanIn((), note=note)


def _raise_if_ambiguous(paths_and_leaves: Sequence[Any], fan_ins: Sequence[FanIn]) -> None:
    for (path, leaf), fan_in in zip(paths_and_leaves, fan_ins, strict=True):
        if fan_in.note.startswith(_AMBIGUOUS):
            raise ValueError(
                f"{path_name(path) or 'the only leaf'} of shape {leaf.shape} is {fan_in.note}. "
                "Put stop_gradient around all but one use in the function given to infer_axes, or "
                "set its FanIn in the tree yourself"
            )
