"""`infer_axes`: find the fan-in axes from the traced computation."""

import reprlib
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optax_gc._dims import weight_dims
from optax_gc._interpreter import interpret, open_jaxpr
from optax_gc._layouts import FanIn
from optax_gc._plan import path_name
from optax_gc._provenance import Provenance, Use, View
from optax_gc._version import __version__


def infer_axes(fn: Callable[..., Any], params: Any, *args: Any, **kwargs: Any) -> Any:
    """Return the fan-in axes of every weight, found from the contraction of `fn` that uses it.

    `fn(params, *args, **kwargs)` is traced and not run. Each weight is followed to the matrix
    product or convolution that uses it. The axes that are summed there are its fan-in axes, so they
    are exact for any model and any layout.

    A weight is followed through casts, transposes, reshapes, slices and concatenation; through
    functions of the weight alone, and arithmetic with constants, random noise, statistics of the
    weight itself and other weights; and through `jit`, `remat`, `scan`, `while`, `cond`, `vmap`,
    `shard_map` and custom derivatives. If a weight is used more than once, these rules apply:

    - A contraction with the *data* takes precedence over contractions with weights and constants
      only. The data are the arrays in `args` and `kwargs`. Arrays that `fn` closes over are
      constants, unless `args` and `kwargs` contain no arrays: then they are the data. Therefore
      bind frozen weights with `functools.partial`. In `x @ (w + a @ b)`, `w` is contracted with the
      data, and `a` and `b` with each other, both along the rank. In `x @ a @ b`, `a` is contracted
      with the data, along the input.
    - A contraction is ignored if no gradient flows back through it (`stop_gradient`, `argmax`), if
      its result only rescales the weight itself (the sigma in `w / sigma`), or if it belongs to a
      gradient that `fn` computes. It counts only if the weight has no other use.
    - A contraction takes precedence over all other uses: a table that is both gathered and
      contracted (tied embeddings) has the axes of the contraction.

    Nothing is guessed. These weights are left alone, and their note gives the reason:

    - A weight that is only gathered, added or multiplied elementwise.
    - A learned input (a query, a latent): a weight that is contracted with weights and constants
      only, and is broadcast or has no remaining axis of more than one element.
    - A weight that is passed to an unknown operation (also to one that a newer JAX has changed), or
      to a contraction that sums only a part of one of its axes.

    Args:
      fn: The model or its loss. Uses that do not reach its output do not count.
      params: The weights, as a pytree of arrays or `jax.ShapeDtypeStruct`s. Leaves that are not
        arrays (such as the functions in an Equinox module) are static.
      *args: The other positional arguments of `fn`, also pytrees. Python numbers, strings, booleans
        and functions in them are static.
      **kwargs: The keyword arguments of `fn`, treated like `args`.

    Returns:
      A pytree with the structure of `params` and a `FanIn` for every leaf. Its `op` is the name of
      the contraction's primitive. Its `note` says why a leaf is left alone.

    Raises:
      ValueError: If `fn` cannot be traced with these arguments, or if two contractions that count
        sum different axes of one weight. The message names the weight.
      NotImplementedError: If the installed JAX is so new that its jaxprs cannot be read.

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
    weights = [
        Provenance(frozenset([View(index, weight_dims(leaf.shape))]))
        if _is_weight(leaf)
        else Provenance()
        for index, (_, leaf) in enumerate(paths_and_leaves)
        if _is_array(leaf)
    ]
    jaxpr = _trace(fn, params, args, kwargs)
    outputs = _interpret(jaxpr, weights)

    uses: dict[int, set[Use]] = {}
    for output in outputs:
        for use in output.uses | output.views_to_uses("returned").uses:
            uses.setdefault(use.weight, set()).add(use)
    fan_ins = [
        _choose_fan_in(path_name(path), leaf, uses.get(index, set()))
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
    """Return the jaxpr of `fn`, with the array leaves of `params` and the arguments as inputs."""
    leaves, structure = jax.tree.flatten((params, args, kwargs))
    arrays = [leaf for leaf in leaves if _is_array(leaf)]

    def fn_of_arrays(*arrays):
        remaining = iter(arrays)
        filled = [next(remaining) if _is_array(leaf) else leaf for leaf in leaves]
        params, args, kwargs = jax.tree.unflatten(structure, filled)
        return [leaf for leaf in jax.tree.leaves(fn(params, *args, **kwargs)) if _is_array(leaf)]

    try:
        return jax.make_jaxpr(fn_of_arrays)(*arrays)
    except Exception as error:
        shapes = jax.tree.map(
            lambda leaf: f"{leaf.dtype}{list(leaf.shape)}" if _is_array(leaf) else leaf, args
        )
        arguments = reprlib.repr(shapes) + (f" {reprlib.repr(kwargs)}" if kwargs else "")
        reason = str(error).partition("\n")[0].rstrip(".")
        name = getattr(fn, "__name__", f"a {type(fn).__name__}")
        raise ValueError(
            f"infer_axes could not trace {name} called on params and the arguments {arguments}: "
            f"{type(error).__name__}: {reason}. Pass a function of params (split an NNX module "
            "first) and its inputs, as example arrays or jax.ShapeDtypeStructs; bind static "
            "arguments with functools.partial"
        ) from error


def _interpret(jaxpr: Any, weights: list[Provenance]) -> list[Provenance]:
    """Return the provenance of the outputs of a traced function, whose first inputs are weights."""
    try:
        data = [Provenance(depends_on_data=True)] * (len(open_jaxpr(jaxpr).invars) - len(weights))
        return interpret(jaxpr, weights + data, Provenance(depends_on_data=not data))
    except AttributeError as error:  # an attribute of jaxprs was renamed
        raise NotImplementedError(
            f"infer_axes of optax_gc {__version__} cannot read the jaxprs of JAX "
            f"{jax.__version__}: {error}. Install a newer optax_gc or an older JAX, or use a rule "
            "such as optax_gc.by_name"
        ) from error


def _choose_fan_in(name: str, leaf: Any, uses: Iterable[Use]) -> FanIn:
    if not _is_weight(leaf):
        return FanIn((), note="not an array of floating-point numbers")
    uses = [use for use in uses if use.counted] or list(uses)
    contractions = [use for use in uses if use.axes is not None]
    contractions = [use for use in contractions if use.with_data] or contractions
    if contractions:
        return _common_fan_in(name, leaf, contractions)
    if not uses:
        return FanIn((), note="never used")
    kinds = sorted({use.how for use in uses} - {"reduced"}) or ["reduced"]
    lost = [kind for kind in kinds if kind.startswith("lost")]
    return FanIn((), note=lost[0] if lost else f"only {' and '.join(kinds)}")


def _common_fan_in(name: str, leaf: Any, contractions: list[Use]) -> FanIn:
    found = sorted({(use.axes or (), use.how) for use in contractions})
    if len({axes for axes, _ in found}) > 1:
        candidates = " and ".join(f"{how} over axes {axes}" for axes, how in found)
        raise ValueError(
            f"{name or 'the only leaf'} of shape {leaf.shape} is ambiguous: it is used by "
            f"{candidates}. Leave all but one of them out of the function given to infer_axes, or "
            "set its FanIn in the tree yourself"
        )
    axes, how = found[0]
    return FanIn(axes, how)
