"""`infer_axes()`: fan-in axes read off the traced computation."""

import reprlib
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optax_gc._layouts import FanIn
from optax_gc._plan import path_name
from optax_gc._provenance import Use, Value, View, whole


def infer_axes(fn: Callable[..., Any], params: Any, *args: Any, **kwargs: Any) -> Any:
    """Fan-in axes of every weight, read off the contraction of `fn` that consumes it.

    `fn(params, *args, **kwargs)` is traced, not run, and each weight is followed to the matrix
    product or convolution that takes it up. The dimensions summed there are its fan-in. So the
    axes are exact for any model in any layout.

    A weight is followed through casts, transposes, reshapes, slices, concatenation, functions of
    it alone, arithmetic with constants, noise, its own statistics and other weights, and through
    `jit`, `remat`, `scan`, `while`, `cond`, `vmap`, `shard_map` and custom derivatives. Where it
    is used more than once:

    - What is contracted with the *data* counts before what is contracted with weights and
      constants alone. The data are the arrays in `args` and `kwargs`; what `fn` closes over is
      constant (unless there are no such arrays: then it is the data), so bind frozen weights with
      `functools.partial`. In `x @ (w + a @ b)` the data consume `w`, while `a` and `b` consume
      each other, both along the rank; in `x @ a @ b` the data consume `a` along the input.
    - A contraction does not count where no gradient comes back from it (`stop_gradient`,
      `argmax`), where all that it gives goes back into the weight (the sigma of `w / sigma`), or
      where it belongs to a gradient that `fn` takes; unless there is nothing else.
    - A contraction counts before everything else: a table both gathered and contracted (tied
      embeddings) has the contraction's axes.

    Whatever is only gathered, added or multiplied elementwise is left alone. So is an input that
    happens to be learned (a query, a latent): what is contracted with weights alone and was
    broadcast, or has no axis of more than one element left. So is a weight that an unknown
    operation swallows, or of which a contraction sums a part of an axis. The note says which.
    Nothing is guessed.

    Args:
      fn: the model or its loss; whatever it returns, what does not reach its output does not count.
      params: the weights, any pytree; arrays or `jax.ShapeDtypeStruct`s. Leaves that are no arrays
        (the functions in an Equinox module) are static.
      *args: the other positional arguments of `fn`, pytrees alike. Python numbers, strings,
        booleans and functions in them are static.
      **kwargs: its keyword arguments, likewise.

    Returns:
      A pytree like `params` with a `FanIn` for every leaf: `op` is the name of the contraction's
      primitive, and `note` says why a leaf is left alone.

    Raises:
      ValueError: `fn` does not trace on these arguments; or two contractions that count sum
        different axes of one weight, which the message names.

    Example:
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
    leaves = [leaf for _, leaf in paths_and_leaves]
    values = [
        Value(frozenset([View(index, whole(leaf.shape))])) if _is_weight(leaf) else Value()
        for index, leaf in enumerate(leaves)
        if _is_array(leaf)
    ]
    from optax_gc._trace import interpret  # imports jax.extend, which takes longer than all of us

    jaxpr = _trace(fn, params, args, kwargs)
    data = [Value(data=True)] * (len(jaxpr.jaxpr.invars) - len(values))
    outputs = interpret(jaxpr, values + data, constants=Value(data=not data))

    uses: dict[int, set[Use]] = {}
    for output in outputs:
        for use in output.uses | output.lost("returned").uses:
            uses.setdefault(use.weight, set()).add(use)
    fan_ins = [
        _verdict(path_name(path), leaf, uses.get(index, set()))
        for index, (path, leaf) in enumerate(paths_and_leaves)
    ]
    return jax.tree.unflatten(structure, fan_ins)


def _is_array(leaf: Any) -> bool:
    if isinstance(leaf, np.ndarray | np.generic):
        return jnp.issubdtype(leaf.dtype, np.number) or leaf.dtype == np.bool_
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)


def _is_weight(leaf: Any) -> bool:
    return _is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _trace(fn: Callable[..., Any], params: Any, args: Any, kwargs: Any):
    """The jaxpr of `fn` in the array leaves of its arguments, those of `params` first."""
    leaves, structure = jax.tree.flatten((params, args, kwargs))
    arrays = [leaf for leaf in leaves if _is_array(leaf)]

    def of_arrays(*arrays):
        rest = iter(arrays)
        filled = [next(rest) if _is_array(leaf) else leaf for leaf in leaves]
        params, args, kwargs = jax.tree.unflatten(structure, filled)
        return [leaf for leaf in jax.tree.leaves(fn(params, *args, **kwargs)) if _is_array(leaf)]

    try:
        return jax.make_jaxpr(of_arrays)(*arrays)
    except Exception as error:
        shapes = jax.tree.map(
            lambda leaf: f"{leaf.dtype}{list(leaf.shape)}" if _is_array(leaf) else leaf, args
        )
        with_what = reprlib.repr(shapes) + (f" {reprlib.repr(kwargs)}" if kwargs else "")
        reason = str(error).partition("\n")[0].rstrip(".")
        name = getattr(fn, "__name__", f"a {type(fn).__name__}")
        raise ValueError(
            f"infer_axes could not trace {name} called on params and the arguments {with_what}: "
            f"{type(error).__name__}: {reason}. It must be a function of params, so split an NNX "
            "module first; call it with what the model is called with, example inputs or "
            "jax.ShapeDtypeStructs of their shapes and dtypes; bind arguments that must stay "
            "static with functools.partial"
        ) from error


def _verdict(name: str, leaf: Any, uses: Iterable[Use]) -> FanIn:
    if not _is_weight(leaf):
        return FanIn((), note="not an array of floating-point numbers")
    uses = [use for use in uses if use.live] or list(uses)
    contractions = [use for use in uses if use.axes is not None]
    contractions = [use for use in contractions if use.by_data] or contractions
    if contractions:
        return _agreed(name, leaf, contractions)
    if not uses:
        return FanIn((), note="never used")
    ways = sorted({use.how for use in uses} - {"reduced"}) or ["reduced"]
    lost = [way for way in ways if way.startswith("lost")]
    return FanIn((), note=lost[0] if lost else f"only {' and '.join(ways)}")


def _agreed(name: str, leaf: Any, contractions: list[Use]) -> FanIn:
    found = sorted({(use.axes or (), use.how) for use in contractions})
    if len({axes for axes, _ in found}) > 1:
        each = " and ".join(f"{how} over axes {axes}" for axes, how in found)
        raise ValueError(
            f"{name or 'the only leaf'} of shape {leaf.shape} is ambiguous: it is consumed by "
            f"{each}. "
            "Its fan-in is a choice: leave one of the two out of the function given to infer_axes, "
            "or put the FanIn that you mean into the tree yourself"
        )
    axes, how = found[0]
    return FanIn(axes, how)
