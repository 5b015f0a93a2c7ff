"""The arguments of a traced function: which are data, and which may be frozen weights."""

import reprlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_array(leaf: Any) -> bool:
    """Return whether a leaf is traced; other leaves are static."""
    if isinstance(leaf, np.ndarray | np.generic):
        return jnp.issubdtype(leaf.dtype, np.number) or leaf.dtype == np.bool_
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)


def is_weight(leaf: Any) -> bool:
    """Return whether a leaf is an array of floating-point numbers."""
    return is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def check_unwrapped(paths_and_leaves: Iterable[tuple[Any, Any]]) -> None:
    """Check that no leaf wraps an array in its `value`, as the variables of Keras do.

    Without this check such a leaf would be left alone like a function in an Equinox module.

    Raises:
      TypeError: If one does.
    """
    for path, leaf in paths_and_leaves:
        if not is_array(leaf) and is_array(getattr(leaf, "value", None)):
            raise TypeError(
                f"params{jax.tree_util.keystr(path)} is a {type(leaf).__name__} and not an array; "
                "pass the arrays, such as [v.value for v in model.trainable_variables] in Keras"
            )


def trace(fn: Callable[..., Any], params: Any, args: Any, kwargs: Any) -> Any:
    """Return the jaxpr of `fn`, with the array leaves of `params` and the arguments as inputs.

    Raises:
      ValueError: If `fn` cannot be traced with these arguments.
    """
    leaves, structure = jax.tree.flatten((params, args, kwargs))
    arrays = [leaf for leaf in leaves if is_array(leaf)]

    def fn_of_arrays(*arrays):
        remaining = iter(arrays)
        filled = [next(remaining) if is_array(leaf) else leaf for leaf in leaves]
        params, args, kwargs = jax.tree.unflatten(structure, filled)
        return [leaf for leaf in jax.tree.leaves(fn(params, *args, **kwargs)) if is_array(leaf)]

    try:
        return jax.make_jaxpr(fn_of_arrays)(*arrays)
    except Exception as error:
        shapes = jax.tree.map(
            lambda leaf: f"{leaf.dtype}{list(leaf.shape)}" if is_array(leaf) else leaf, args
        )
        arguments = reprlib.repr(shapes) + (f" {reprlib.repr(kwargs)}" if kwargs else "")
        reason = str(error).partition("\n")[0].rstrip(".")
        if type(error).__name__ == "TraceContextError":
            reason += (
                ". A variable of an NNX module that is not split, such as an nnx.Rngs or the "
                "statistics of a batch normalization, changes outside of the trace: split the "
                "module, and pass the rest as an argument"
            )
        name = getattr(fn, "__name__", f"a {type(fn).__name__}")
        raise ValueError(
            f"infer_axes could not trace {name} called on params and the arguments {arguments}: "
            f"{type(error).__name__}: {reason}. Pass a function of params and its inputs, "
            "as example arrays or jax.ShapeDtypeStructs; bind static arguments with "
            "functools.partial"
        ) from error


def check_not_closed_over(jaxpr: Any, leaves: Sequence[Any]) -> None:
    """Check that a function that uses none of its weights has no others either.

    Args:
      jaxpr: The closed jaxpr of the function.
      leaves: The leaves of its parameters, of which it uses none.

    Raises:
      ValueError: If it closes over arrays that can be weights.
    """
    if any(map(is_weight, leaves)) and any(map(is_weight, jaxpr.consts)):
        raise ValueError(
            "fn uses no weight of params, but closes over other arrays: infer_axes cannot see the "
            "weights that a model holds itself. Use the argument params in fn, such as "
            "lambda params, x: model.apply(params, x)"
        )


def check_data_argnums(data_argnums: int | Sequence[int], count: int) -> tuple[int, ...]:
    """Return the positions of the data in `args`.

    Args:
      data_argnums: Positions in the call `fn(params, *args)`, so that 1 is the first of `args`.
      count: The number of `args`.

    Raises:
      ValueError: If there is no such argument.
    """
    numbers = (data_argnums,) if isinstance(data_argnums, int) else tuple(data_argnums)
    if bad := [number for number in numbers if not 1 <= number <= count]:
        raise ValueError(
            f"data_argnums has {bad[0]}, but fn is called with the arguments 0 (params) to {count}"
        )
    return tuple(number - 1 for number in numbers)


def possible_weights(args: Sequence[Any], kwargs: Any) -> tuple[list[int], list[int]]:
    """Return the positions of the arguments that may be frozen weights: of trees, and of arrays.

    The last argument is data, and so are the keyword arguments. An argument before it may hold
    weights if it has an array of floating-point numbers whose first axis is not as long as that of
    any array in the data, and so is no axis of examples.
    """
    reference = [leaf for leaf in jax.tree.leaves(kwargs) if _is_data(leaf)]
    last = len(args)
    while last and not reference:
        last -= 1
        reference = [leaf for leaf in jax.tree.leaves(args[last]) if _is_data(leaf)]
    sizes = _first_axes(reference)
    trees: list[int] = []
    arrays: list[int] = []
    for position, arg in enumerate(args[:last]):
        leaves = [leaf for leaf in jax.tree.leaves(arg) if is_weight(leaf)]
        if sizes and _first_axes(leaves) - sizes:
            (arrays if is_array(arg) else trees).append(position)
    return trees, arrays


def _is_data(leaf: Any) -> bool:
    return is_array(leaf) and not _is_key(leaf)


def _is_key(leaf: Any) -> bool:
    is_old_key = leaf.dtype == jnp.uint32 and leaf.shape == (2,)
    return is_old_key or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _first_axes(leaves: Iterable[Any]) -> set[int]:
    return {leaf.shape[0] for leaf in leaves if leaf.shape}
