"""`FanIn`, and rules that give the fan-in axes by their position."""

import dataclasses
import operator
from collections.abc import Iterable
from typing import Any, SupportsIndex, TypeAlias

import jax

KeyPath: TypeAlias = tuple[Any, ...]
"""The path of a leaf, as `jax.tree_util.tree_flatten_with_path` gives it."""


@dataclasses.dataclass(frozen=True, repr=False, init=False)
class FanIn:
    """The input axes of one weight, over which the mean of its gradient is taken.

    It is not a pytree node: a tree of `FanIn` has one leaf per weight.

    Args:
      axes: The fan-in axes, as integers. Negative axes count from the end. `FanIn(())` leaves the
        weight alone.
      op: The primitive that contracts these axes, such as `"dot_general"` or
        `"conv_general_dilated"`, if it is known.
      note: The reason why the weight is left alone, or other text for the table of `explain`.
      mesh_axes: The mesh axes over which the fan-in axes are sharded *manually*, that is, inside
        `jax.shard_map`, where a mean covers one shard only. Leave it empty under `jax.jit`, where
        means are global for every sharding.
      out_axes: The output axes, for `muon_dimension_numbers`; `None` if they are not known. The
        remaining axes stack several weights (layers, experts).

    Raises:
      TypeError: If an axis is not an integer.
      ValueError: If an axis is repeated.

    Examples:
      >>> import optax_gc
      >>> optax_gc.FanIn((0, 1, 2))
      FanIn((0, 1, 2))
    """

    axes: tuple[int, ...]
    op: str | None
    note: str = dataclasses.field(compare=False)
    mesh_axes: tuple[str, ...]
    out_axes: tuple[int, ...] | None = dataclasses.field(compare=False)

    def __init__(
        self,
        axes: Iterable[SupportsIndex],
        op: str | None = None,
        note: str = "",
        mesh_axes: str | Iterable[str] = (),
        out_axes: Iterable[SupportsIndex] | None = None,
    ):
        fields = {
            "axes": _to_axes(axes),
            "op": op,
            "note": note,
            "mesh_axes": (mesh_axes,) if isinstance(mesh_axes, str) else tuple(mesh_axes),
            "out_axes": None if out_axes is None else _to_axes(out_axes),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        fields = {"op": self.op, "note": self.note, "mesh_axes": self.mesh_axes}
        args = [repr(self.axes), *(f"{name}={value!r}" for name, value in fields.items() if value)]
        return f"FanIn({', '.join(args)})"

    def sharded(self, spec: Iterable[str | tuple[str, ...] | None]) -> "FanIn":
        """Return this fan-in for use inside a `jax.shard_map` that shards the weight by `spec`.

        Args:
          spec: The weight's `jax.sharding.PartitionSpec`, as in `in_specs`.

        Returns:
          A copy whose `mesh_axes` are the mesh axes that `spec` assigns to the fan-in axes.

        Raises:
          ValueError: If an axis is negative, because `spec` does not give the weight's rank.

        Examples:
          >>> from jax.sharding import PartitionSpec as P
          >>> import optax_gc
          >>> optax_gc.FanIn((0,)).sharded(P("model", None))
          FanIn((0,), mesh_axes=('model',))
        """
        if any(axis < 0 for axis in self.axes):
            raise ValueError(f"{self!r} counts axes from the end; use non-negative axes")
        parts = tuple(spec)
        mesh_axes: list[str] = []
        for axis in self.axes:
            part = parts[axis] if axis < len(parts) else None
            mesh_axes += [part] if isinstance(part, str) else list(part or ())
        return dataclasses.replace(self, mesh_axes=tuple(mesh_axes))


def _to_axes(axes: Iterable[SupportsIndex]) -> tuple[int, ...]:
    try:
        integers = tuple(operator.index(axis) for axis in axes)
    except TypeError:
        raise TypeError(
            f"FanIn takes a tuple of integers, got {axes!r}; write FanIn((0,)) for axis 0"
        ) from None
    if len(set(integers)) != len(integers):
        raise ValueError(f"FanIn names an axis twice: {integers}")
    return integers


def last_axis_out(path: KeyPath, leaf: jax.Array) -> FanIn:
    """Return all axes but the last: the fan-in of Flax, Haiku and Keras kernels.

    Args:
      path: The key path of the leaf, which is not used.
      leaf: Any object with a `shape`.

    Returns:
      `FanIn((0, ..., n - 2))`; `FanIn(())` for a leaf with fewer than two axes.

    Examples:
      >>> import jax.numpy as jnp, optax_gc
      >>> optax_gc.last_axis_out((), jnp.zeros((3, 3, 64, 128)))
      FanIn((0, 1, 2))
    """
    del path
    return fan_in_of_matrix(len(leaf.shape), range(len(leaf.shape) - 1))


def first_axis_out(path: KeyPath, leaf: jax.Array) -> FanIn:
    """Return all axes but the first: the fan-in of PyTorch and Equinox weights.

    Args:
      path: The key path of the leaf, which is not used.
      leaf: Any object with a `shape`.

    Returns:
      `FanIn((1, ..., n - 1))`; `FanIn(())` for a leaf with fewer than two axes.

    Examples:
      >>> import jax.numpy as jnp, optax_gc
      >>> optax_gc.first_axis_out((), jnp.zeros((128, 64, 3, 3)))
      FanIn((1, 2, 3))
    """
    del path
    return fan_in_of_matrix(len(leaf.shape), range(1, len(leaf.shape)))


def whole_tensor(path: KeyPath, leaf: jax.Array) -> FanIn:
    """Return all axes, so that the update is `g - mean(g)`. This is not the GC of the paper.

    It removes one mean per weight and not one mean per output unit. Some implementations do this;
    the rule exists for comparisons with them.

    Args:
      path: The key path of the leaf, which is not used.
      leaf: Any object with a `shape`.

    Returns:
      `FanIn((0, ..., n - 1))`; `FanIn(())` for a leaf with fewer than two axes.

    Examples:
      >>> import jax.numpy as jnp, optax_gc
      >>> optax_gc.whole_tensor((), jnp.zeros((3, 3, 64, 128)))
      FanIn((0, 1, 2, 3))
    """
    del path
    return fan_in_of_matrix(len(leaf.shape), range(len(leaf.shape)))


def fan_in_of_matrix(rank: int, axes: Iterable[int]) -> FanIn:
    """Return the fan-in `axes` of a weight of two or more axes, and no fan-in for others."""
    if rank < 2:
        return FanIn((), note="fewer than two axes")
    axes = tuple(axes)
    return FanIn(axes, out_axes=tuple(axis for axis in range(rank) if axis not in axes))
