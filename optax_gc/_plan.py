"""Which axes each leaf of a tree is centralized over: rules and trees of `FanIn`, checked."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from optax_gc._layouts import FanIn, KeyPath, by_name

Axes: TypeAlias = Callable[[KeyPath, Any], FanIn] | Any
"""`None`, a rule, or a pytree of `FanIn`."""


class Planned(NamedTuple):
    """One leaf and what will be done to it."""

    path: str
    leaf: Any
    fan_in: FanIn  # axes checked and counted from the front; with a note where there are none


def plan(
    tree: optax.Updates, axes: Axes = None, conv_only: bool = False
) -> tuple[list[Planned], Any]:
    """Decides for every leaf of `tree` over which axes it is centralized.

    Args:
      tree: parameters or updates; `None` and `MaskedNode` count as leaves that are left alone.
      axes: `None` for `by_name`, a rule, or a pytree of `FanIn` shaped like `tree`.
      conv_only: leave alone what no convolution consumes.

    Returns:
      The leaves in order, and the tree's structure.

    Raises:
      TypeError: a rule or a tree yields something that is no `FanIn`.
      ValueError: the tree of axes does not fit, an axis is out of range or named twice.
    """
    paths_and_leaves, structure = jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_hole)
    paths = [path for path, _ in paths_and_leaves]
    leaves = [leaf for _, leaf in paths_and_leaves]
    names = [path_name(path) for path in paths]
    if axes is None or _is_rule(axes):
        rule = by_name if axes is None else axes
        fan_ins = [
            FanIn(()) if _why_untouchable(leaf) else rule(path, leaf)
            for path, leaf in zip(paths, leaves, strict=True)
        ]
    else:
        fan_ins = _fit(axes, structure, names, leaves)
    planned = [
        Planned(name, leaf, _checked(name, leaf, fan_in, conv_only))
        for name, leaf, fan_in in zip(names, leaves, fan_ins, strict=True)
    ]
    return planned, structure


def path_name(path: KeyPath) -> str:
    """`('params', 'Dense_0', 'kernel')` as `params/Dense_0/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def fan_in_size(leaf: Any, fan_in: FanIn) -> int:
    """The number of elements that one mean is taken over (on one shard)."""
    return math.prod(leaf.shape[axis] for axis in fan_in.axes)


def _is_hole(node: Any) -> bool:
    return node is None or isinstance(node, optax.MaskedNode)


def _is_rule(axes: Axes) -> bool:
    # An Equinox module full of FanIn is callable too, and is a tree.
    return callable(axes) and not any(isinstance(leaf, FanIn) for leaf in jax.tree.leaves(axes))


def _why_untouchable(leaf: Any) -> str:
    if _is_hole(leaf):
        return "masked"
    if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return "not an array of floating-point numbers"
    if math.prod(leaf.shape) == 0:
        return "empty"
    return ""


def _checked(name: str, leaf: Any, fan_in: Any, conv_only: bool) -> FanIn:
    if not isinstance(fan_in, FanIn):
        raise TypeError(
            f"the axes of {_describe(name, leaf)} must be an optax_gc.FanIn, got {fan_in!r}; "
            "FanIn(()) leaves it alone"
        )
    if why := _why_untouchable(leaf):
        return FanIn((), fan_in.op, why)
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
    """By what consumes the weight where that is known, else by rank as in the authors' GCC."""
    return len(leaf.shape) > 3 if fan_in.op is None else fan_in.op.startswith("conv")


def _fit(axes: Axes, structure: Any, names: list[str], leaves: list[Any]) -> list[Any]:
    """The `FanIn` of each leaf; where the updates have a hole, `axes` may hold anything."""
    try:
        fan_ins = structure.flatten_up_to(axes)
    except ValueError:
        if not any(isinstance(leaf, FanIn) for leaf in jax.tree.leaves(axes)):
            raise TypeError(
                "axes must be None, a rule such as optax_gc.last_axis_out, or a pytree of "
                f"optax_gc.FanIn shaped like the updates, got {axes!r}"
            ) from None
        raise ValueError(_misfit(axes, structure, names, leaves)) from None
    fan_ins = [_unboxed(fan_in) for fan_in in fan_ins]
    return [
        FanIn(()) if _why_untouchable(leaf) and not isinstance(fan_in, FanIn) else fan_in
        for leaf, fan_in in zip(leaves, fan_ins, strict=True)
    ]


def _unboxed(fan_in: Any) -> Any:
    """What is in a box of one: `nnx.Optimizer` boxes parameters at `init`, and not updates."""
    leaves = jax.tree.leaves(fan_in)
    boxed = len(leaves) == 1 and not isinstance(fan_in, tuple | list | dict)
    return leaves[0] if boxed else fan_in


def _misfit(axes: Axes, structure: Any, names: list[str], leaves: list[Any]) -> str:
    wrong = "the tree of axes does not fit: "
    given = [path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(axes)[0]]
    for name, leaf in zip(names, leaves, strict=True):
        if name not in given and not _is_hole(leaf):
            hint = ""
            if isinstance(axes, FanIn):
                hint = "; for a whole tree give a rule, as lambda path, leaf: FanIn((0,))"
            elif given[0] not in names:
                hint = f"; it has one for {given[0]}, which the updates have not"
            return f"{wrong}it has no FanIn for {_describe(name, leaf)}{hint}"
    if extra := sorted(set(given) - set(names)):
        return f"{wrong}it has a FanIn for {extra[0]}, the updates do not"
    theirs = (structure.node_data() or (None,))[0]
    return (
        f"{wrong}its containers ({type(axes).__name__}) are of other types than the updates' "
        f"({getattr(theirs, '__name__', theirs)}); infer them on what the optimizer is given, for "
        "an NNX module nnx.state(module, nnx.Param)"
    )


def _describe(name: str, leaf: Any) -> str:
    return f"{name or 'the only leaf'} of shape {getattr(leaf, 'shape', None)}"
