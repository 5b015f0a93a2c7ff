"""Decide over which axes each leaf of a tree is centralized, and validate the axes."""

import dataclasses
import math
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias, TypeGuard

import jax
import jax.numpy as jnp
import optax

from optax_gc._layouts import FanIn, KeyPath
from optax_gc._names import by_name

Rule: TypeAlias = Callable[[KeyPath, Any], FanIn]
"""A function from the path and the leaf to the fan-in, such as `last_axis_out`."""


class _Dataclass(Protocol):
    """A pytree that is a dataclass, such as an Equinox module."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


FanInTree: TypeAlias = FanIn | Mapping[Any, Any] | list[Any] | tuple[Any, ...] | _Dataclass
"""A pytree of `FanIn`, as far as types can tell: no array, and no string."""

Axes: TypeAlias = Rule | FanInTree | None
"""`None` for `by_name`, a rule, or a pytree of `FanIn`."""

BOX = "/value"  # the end of the path of a leaf of Flax NNX, whose array is in a box


class PlannedLeaf(NamedTuple):
    """A leaf and its validated fan-in."""

    path: str
    leaf: Any
    fan_in: FanIn  # axes are sorted and non-negative; without axes, the note gives the reason


def plan(
    tree: optax.Updates, axes: Axes = None, conv_only: bool = False
) -> tuple[list[PlannedLeaf], Any]:
    """Decide over which axes each leaf of `tree` is centralized.

    Args:
      tree: Parameters or updates. `None` and `MaskedNode` are leaves, which are left unchanged.
      axes: `None` for `by_name`, a rule, or a pytree of `FanIn` with the structure of `tree`.
      conv_only: Whether to leave alone all leaves that are not convolution kernels.

    Returns:
      The leaves in order, and the tree structure.

    Raises:
      TypeError: If a rule or a tree gives something other than a `FanIn`.
      ValueError: If the tree of axes does not match `tree`, or if an axis is out of range or
        repeated.
    """
    check_axes(axes)
    paths_and_leaves, structure = jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_masked)
    paths = [path for path, _ in paths_and_leaves]
    leaves = [leaf for _, leaf in paths_and_leaves]
    names = [path_name(path) for path in paths]
    if axes is None or _is_rule(axes):
        rule = by_name if axes is None else axes
        fan_ins = [
            FanIn(()) if _reason_to_skip(leaf) else rule(path, leaf)
            for path, leaf in zip(paths, leaves, strict=True)
        ]
    else:
        fan_ins = _match_tree(axes, structure, names, leaves)
    planned = [
        PlannedLeaf(name, leaf, _validate(name, leaf, fan_in, conv_only))
        for name, leaf, fan_in in zip(names, leaves, fan_ins, strict=True)
    ]
    return planned, structure


def check_axes(axes: Axes) -> None:
    """Check that `axes` is None, a rule or a pytree with `FanIn` leaves.

    Raises:
      TypeError: If it is not, for example if it is a model or a name.
    """
    leaves = jax.tree.leaves(axes)
    is_function = callable(axes) and len(leaves) == 1 and leaves[0] is axes
    if not leaves or is_function or any(isinstance(leaf, FanIn) for leaf in leaves):
        return
    got = reprlib.repr(axes) if len(leaves) == 1 else f"a {type(axes).__name__} without FanIn"
    raise TypeError(
        "axes must be None, a rule such as optax_gc.last_axis_out, or a pytree of optax_gc.FanIn "
        f"with the structure of the updates, got {got}; for the axes of a model, use "
        "optax_gc.infer_axes"
    )


def path_name(path: KeyPath) -> str:
    """Return a key path as a string, such as `params/Dense_0/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def fan_in_size(leaf: Any, fan_in: FanIn) -> int:
    """Return the number of elements in each mean, on one shard."""
    return math.prod(leaf.shape[axis] for axis in fan_in.axes)


def _is_masked(node: Any) -> bool:
    return node is None or isinstance(node, optax.MaskedNode)


def _is_rule(axes: Axes) -> TypeGuard[Rule]:
    # An Equinox module can be callable. With FanIn leaves it is a tree of axes and not a rule.
    return callable(axes) and not any(isinstance(leaf, FanIn) for leaf in jax.tree.leaves(axes))


def _reason_to_skip(leaf: Any) -> str:
    if _is_masked(leaf):
        return "masked"
    if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return "not an array of floating-point numbers"
    if math.prod(leaf.shape) == 0:
        return "empty"
    return ""


def _validate(name: str, leaf: Any, fan_in: Any, conv_only: bool) -> FanIn:
    if not isinstance(fan_in, FanIn):
        raise TypeError(
            f"the axes of {_describe(name, leaf)} must be an optax_gc.FanIn, got {fan_in!r}; "
            "FanIn(()) leaves it alone"
        )
    if reason := _reason_to_skip(leaf):
        return FanIn((), fan_in.op, reason)
    rank = len(leaf.shape)
    if bad := [axis for axis in fan_in.axes if not -rank <= axis < rank]:
        raise ValueError(
            f"fan-in axis {bad[0]} is out of range for {_describe(name, leaf)}, "
            f"which has {rank} axes"
        )
    axes = tuple(sorted(axis % rank for axis in fan_in.axes))
    if len(set(axes)) != len(axes):
        raise ValueError(f"{fan_in} names an axis of {_describe(name, leaf)} twice")
    if not axes:
        return fan_in
    if conv_only and not _is_convolution(leaf, fan_in):
        return FanIn((), fan_in.op, "not a convolution's kernel")
    fan_in = dataclasses.replace(fan_in, axes=axes)
    if fan_in_size(leaf, fan_in) == 1 and not fan_in.mesh_axes:
        return FanIn((), fan_in.op, "a fan-in of one: its mean is itself")
    return fan_in


def _is_convolution(leaf: Any, fan_in: FanIn) -> bool:
    # If the operation is not known, use the criterion of the authors' GCC.
    return len(leaf.shape) > 3 if fan_in.op is None else fan_in.op.startswith("conv")


def _match_tree(axes: Axes, structure: Any, names: list[str], leaves: list[Any]) -> list[Any]:
    """Return the entry of `axes` for each leaf. For masked leaves, `axes` may hold anything."""
    try:
        fan_ins = structure.flatten_up_to(axes)
    except ValueError:
        by_path = _fan_ins_by_path(axes)
        for name, leaf in zip(names, leaves, strict=True):
            if name not in by_path and not _is_masked(leaf):
                raise ValueError(_missing_message(axes, by_path, names, name, leaf)) from None
        # `axes` has more leaves, such as the batch statistics of an NNX module.
        fan_ins = [by_path.get(name, FanIn(())) for name in names]
    fan_ins = [_unbox(fan_in) for fan_in in fan_ins]
    return [
        FanIn(()) if _reason_to_skip(leaf) and not isinstance(fan_in, FanIn) else fan_in
        for leaf, fan_in in zip(leaves, fan_ins, strict=True)
    ]


def _fan_ins_by_path(axes: Axes) -> dict[str, FanIn]:
    """Return the `FanIn` leaves of a tree by path, with and without the box of a Flax leaf."""
    by_path: dict[str, FanIn] = {}
    for path, fan_in in jax.tree_util.tree_flatten_with_path(axes)[0]:
        if isinstance(fan_in, FanIn):
            name = path_name(path)
            unboxed = name.removesuffix(BOX)
            by_path |= {name: fan_in, unboxed: fan_in, unboxed + BOX: fan_in}
    return by_path


def _unbox(fan_in: Any) -> Any:
    """Return the content of a box around one leaf.

    `nnx.Optimizer` passes boxed parameters to `init`, and updates without boxes to `update`.
    """
    leaves = jax.tree.leaves(fan_in)
    is_box = len(leaves) == 1 and not isinstance(fan_in, tuple | list | dict)
    return leaves[0] if is_box else fan_in


def _missing_message(
    axes: Axes, by_path: dict[str, FanIn], names: list[str], name: str, leaf: Any
) -> str:
    hint = ""
    if isinstance(axes, FanIn):
        hint = "; for all leaves, pass a rule: lambda path, leaf: FanIn((0,))"
    elif not by_path.keys() & set(names):
        hint = f"; it has one for {next(iter(by_path))}, which is not in the updates"
    return f"the tree of axes does not fit: it has no FanIn for {_describe(name, leaf)}{hint}"


def _describe(name: str, leaf: Any) -> str:
    label = f"leaf {name}" if name.isdecimal() else name or "the only leaf"  # of a list
    return f"{label} of shape {getattr(leaf, 'shape', None)}"
