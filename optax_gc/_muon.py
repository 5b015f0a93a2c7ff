"""`muon_dimension_numbers`: the inferred axes in the form that optax's Muon takes."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from optax_gc._layouts import FanIn
from optax_gc._plan import BOX, check_axes, path_name


def muon_dimension_numbers(axes: Any) -> Any:
    """Return the axes as `optax.contrib.MuonDimensionNumbers`, for `optax.contrib.muon`.

    Muon orthogonalizes the update of a matrix. A convolution or attention kernel is a matrix only
    if its fan-in axes are merged, and its output axes. Stacked layers and experts are several
    matrices. By default, optax uses Muon for weights of two axes and another optimizer for others.

    Args:
      axes: A pytree of `FanIn`, as returned by `infer_axes`.

    Returns:
      A pytree with the structure of `axes`, in which a leaf of Flax NNX has no box. A leaf without
      fan-in or output axes has `None`: Muon is not used for it. The axes that are neither are batch
      axes. If the pytree is callable, as a module of Equinox is, a function from the parameters to
      such a pytree, because optax would call the module.

    Raises:
      TypeError: If `axes` is not a pytree of `FanIn`.
      ValueError: If the output axes of a `FanIn` are not known. The message names the leaf.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optax_gc
      >>> params = {"query": jnp.zeros((16, 4, 8)), "bias": jnp.zeros((4, 8))}
      >>> def queries(params, x):
      ...   return jnp.einsum("td,dhk->thk", x, params["query"]) + params["bias"][None]
      >>> axes = optax_gc.infer_axes(queries, params, jnp.zeros((3, 16)))
      >>> numbers = optax_gc.muon_dimension_numbers(axes)
      >>> numbers["bias"], numbers["query"]
      (None, MuonDimensionNumbers(reduction_axis=(0,), output_axis=(1, 2)))
      >>> tx = optax.contrib.muon(0.02, muon_weight_dimension_numbers=numbers)

    References:
      Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024,
      https://kellerjordan.github.io/posts/muon/
    """
    leaves = jax.tree.leaves(axes)
    if not leaves or not all(isinstance(leaf, FanIn) for leaf in leaves):
        check_axes(axes)
        raise TypeError("axes must be a pytree of optax_gc.FanIn, such as infer_axes returns")
    numbers = jax.tree_util.tree_map_with_path(
        lambda path, node: _dimension_numbers(path, jax.tree.leaves(node)[0]),
        axes,
        is_leaf=_is_fan_in,
    )
    return _for_params(axes) if callable(numbers) else numbers


def _for_params(axes: Any) -> Callable[[Any], Any]:
    """Return a function that gives parameters the dimension numbers of the same paths."""
    numbers = {
        path_name(path).removesuffix(BOX): _dimension_numbers(path, fan_in)
        for path, fan_in in jax.tree_util.tree_flatten_with_path(axes)[0]
    }
    return lambda params: jax.tree_util.tree_map_with_path(
        lambda path, _: numbers[path_name(path).removesuffix(BOX)], params
    )


def _is_fan_in(node: Any) -> bool:
    """Return whether a node is a `FanIn`, or one in the box of a Flax leaf."""
    names = [path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(node)[0]]
    return isinstance(node, FanIn) or (names == ["value"] and not isinstance(node, dict))


def _dimension_numbers(path: Any, fan_in: FanIn) -> optax.contrib.MuonDimensionNumbers | None:
    if not fan_in.axes:
        return None
    if fan_in.out_axes is None:
        raise ValueError(
            f"the output axes of {path_name(path) or 'the only leaf'} are not known: give them as "
            f"FanIn({fan_in.axes}, out_axes=...), or use optax_gc.infer_axes"
        )
    if not fan_in.out_axes:
        return None
    return optax.contrib.MuonDimensionNumbers(fan_in.axes, fan_in.out_axes)
