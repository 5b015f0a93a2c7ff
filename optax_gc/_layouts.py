"""`FanIn`, and the rules that read a weight's fan-in axes off its name and shape."""

import dataclasses
import operator
import re
from collections.abc import Iterable
from typing import Any

import jax

KeyPath = tuple[Any, ...]


@dataclasses.dataclass(frozen=True, repr=False)
class FanIn:
    """The input axes of one weight: those that its gradient's mean is taken over.

    Not a pytree node: a tree of `FanIn` has one leaf per weight.

    Args:
      axes: the fan-in axes, each an integer; negative ones count from the end.
        `FanIn(())` leaves the weight alone.
      op: the primitive that contracts these axes, such as `"dot_general"` or
        `"conv_general_dilated"`, where it is known.
      note: why the weight is left alone, or anything else worth a line in `explain`.
      mesh_axes: the mesh axes over which the fan-in axes are sharded *by hand*, that is
        inside `jax.shard_map`, where a mean sees one shard only. Leave it empty under
        `jax.jit`, whose means are global whatever the sharding.

    Raises:
      TypeError: an axis is not an integer.
      ValueError: an axis is named twice.

    Example:
      >>> import optax_gc
      >>> optax_gc.FanIn((0, 1, 2))
      FanIn((0, 1, 2))
    """

    axes: tuple[int, ...]
    op: str | None = None
    note: str = dataclasses.field(default="", compare=False)
    mesh_axes: tuple[str, ...] = ()

    def __post_init__(self):
        try:
            axes = tuple(operator.index(axis) for axis in self.axes)
        except TypeError:
            raise TypeError(
                f"FanIn takes a tuple of integers, got {self.axes!r}; write FanIn((0,)) for axis 0"
            ) from None
        if len(set(axes)) != len(axes):
            raise ValueError(f"FanIn names an axis twice: {axes}")
        object.__setattr__(self, "axes", axes)
        mesh_axes = (self.mesh_axes,) if isinstance(self.mesh_axes, str) else self.mesh_axes
        object.__setattr__(self, "mesh_axes", tuple(mesh_axes))

    def __repr__(self) -> str:
        named = {"op": self.op, "note": self.note, "mesh_axes": self.mesh_axes}
        shown = [repr(self.axes), *(f"{name}={value!r}" for name, value in named.items() if value)]
        return f"FanIn({', '.join(shown)})"

    def sharded(self, spec: Iterable[str | tuple[str, ...] | None]) -> "FanIn":
        """The same weight inside a `jax.shard_map` whose `in_specs` shard it by `spec`.

        Args:
          spec: the weight's `jax.sharding.PartitionSpec`.

        Returns:
          A copy whose `mesh_axes` are those that `spec` lays on the fan-in axes.

        Raises:
          ValueError: an axis counts from the end; `spec` does not tell the weight's rank.

        Example:
          >>> from jax.sharding import PartitionSpec as P
          >>> import optax_gc
          >>> optax_gc.FanIn((0,)).sharded(P("model", None))
          FanIn((0,), mesh_axes=('model',))
        """
        if any(axis < 0 for axis in self.axes):
            raise ValueError(f"{self!r} counts axes from the end; name them from the front")
        parts = tuple(spec)
        mesh_axes: list[str] = []
        for axis in self.axes:
            part = parts[axis] if axis < len(parts) else None
            mesh_axes += [part] if isinstance(part, str) else list(part or ())
        return dataclasses.replace(self, mesh_axes=tuple(mesh_axes))


def last_axis_out(path: KeyPath, leaf: jax.Array) -> FanIn:
    """All axes but the last are fan-in: kernels of Flax, Haiku and Keras.

    Args:
      path: the leaf's key path, unused.
      leaf: anything with a `shape`.

    Returns:
      `FanIn((0, ..., n - 2))`; `FanIn(())` for a leaf of fewer than two axes.

    Example:
      >>> import jax.numpy as jnp, optax_gc
      >>> optax_gc.last_axis_out((), jnp.zeros((3, 3, 64, 128)))
      FanIn((0, 1, 2))
    """
    del path
    return _if_matrix(leaf, range(len(leaf.shape) - 1))


def first_axis_out(path: KeyPath, leaf: jax.Array) -> FanIn:
    """All axes but the first are fan-in: weights of PyTorch and Equinox.

    Args:
      path: the leaf's key path, unused.
      leaf: anything with a `shape`.

    Returns:
      `FanIn((1, ..., n - 1))`; `FanIn(())` for a leaf of fewer than two axes.

    Example:
      >>> import jax.numpy as jnp, optax_gc
      >>> optax_gc.first_axis_out((), jnp.zeros((128, 64, 3, 3)))
      FanIn((1, 2, 3))
    """
    del path
    return _if_matrix(leaf, range(1, len(leaf.shape)))


def whole_tensor(path: KeyPath, leaf: jax.Array) -> FanIn:
    """Every axis is averaged: `g - mean(g)`, which some call GC and the paper does not.

    It removes one mean per weight instead of one per output unit. It is here to be compared.

    Args:
      path: the leaf's key path, unused.
      leaf: anything with a `shape`.

    Returns:
      `FanIn((0, ..., n - 1))`; `FanIn(())` for a leaf of fewer than two axes.

    Example:
      >>> import jax.numpy as jnp, optax_gc
      >>> optax_gc.whole_tensor((), jnp.zeros((3, 3, 64, 128)))
      FanIn((0, 1, 2, 3))
    """
    del path
    return _if_matrix(leaf, range(len(leaf.shape)))


_NO_FAN_IN = re.compile(
    r"b|bias(es)?|scales?|offsets?|gamma|beta"  # what is added or multiplied per feature
    r"|(bias|b)_.*|.*_(bias|scale|offset)|.*(?<!lora)_b"
    r"|.*(embed|token|position).*|pos|cls"  # tables and tokens: looked up or added
)
_FIRST_AXIS_OUT = re.compile(r"weight(_.*)?|.*_weight")
_LAST_AXIS_OUT = frozenset({"kernel", "w"})
_ATTENTION_INPUTS = frozenset({"query", "key", "value"})


def by_name(path: KeyPath, leaf: jax.Array) -> FanIn:
    """The default rule: read the layout off the leaf's name, then off its shape.

    | leaf | fan-in |
    |---|---|
    | `query/kernel`, `key/kernel`, `value/kernel` of shape (d, heads, head_dim) | axis 0 |
    | `kernel`, `w` | all axes but the last |
    | `weight`, `weight_*`, `*_weight` | all axes but the first |
    | biases, scales, offsets, embeddings, tokens, position tables | none |
    | any other leaf of two or more axes | all axes but the last |

    A name cannot tell that `nn.scan` stacked a kernel's layers in front, nor that a
    transposed convolution swapped its axes: `infer_axes` can.

    Args:
      path: the leaf's key path, as `jax.tree_util.tree_flatten_with_path` gives it.
      leaf: anything with a `shape`.

    Returns:
      The leaf's `FanIn`, with a `note` where it is left alone.

    Example:
      >>> import jax, jax.numpy as jnp, optax_gc
      >>> params = {"kernel": jnp.zeros((5, 7)), "bias": jnp.zeros(7)}
      >>> jax.tree_util.tree_map_with_path(optax_gc.by_name, params)
      {'bias': FanIn((), note='bias'), 'kernel': FanIn((0,))}
    """
    *parents, name = _names(path) or [""]
    parent = parents[-1] if parents else ""
    if name in _LAST_AXIS_OUT:
        if parent in _ATTENTION_INPUTS and len(leaf.shape) >= 3:
            return FanIn((len(leaf.shape) - 3,))
        return last_axis_out(path, leaf)
    if _FIRST_AXIS_OUT.fullmatch(name):
        if "embed" in parent.lower() and len(leaf.shape) == 2:
            return FanIn((), note=parent)
        return first_axis_out(path, leaf)
    if _NO_FAN_IN.fullmatch(name.lower()):
        return FanIn((), note=name)
    fan_in = last_axis_out(path, leaf)
    return dataclasses.replace(fan_in, note=fan_in.note or "by its shape: the name is unknown")


def _if_matrix(leaf: jax.Array, axes: Iterable[int]) -> FanIn:
    if len(leaf.shape) < 2:
        return FanIn((), note="fewer than two axes")
    return FanIn(tuple(axes))


def _names(path: KeyPath) -> list[str]:
    """The path's components as strings, without the box that Flax puts around a leaf."""
    names = [jax.tree_util.keystr((key,), simple=True) for key in path]
    boxed = path and isinstance(path[-1], jax.tree_util.GetAttrKey) and names[-1] == "value"
    return names[:-1] if boxed and len(names) > 1 else names
