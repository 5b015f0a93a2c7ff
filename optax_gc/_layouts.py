"""`FanIn`, and rules that find a weight's fan-in axes from its name and shape."""

import dataclasses
import operator
import re
from collections.abc import Iterable
from typing import Any

import jax

KeyPath = tuple[Any, ...]


@dataclasses.dataclass(frozen=True, repr=False)
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

    Raises:
      TypeError: If an axis is not an integer.
      ValueError: If an axis is repeated.

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

        Example:
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


def last_axis_out(path: KeyPath, leaf: jax.Array) -> FanIn:
    """Return all axes but the last: the fan-in of Flax, Haiku and Keras kernels.

    Args:
      path: The key path of the leaf, which is not used.
      leaf: Any object with a `shape`.

    Returns:
      `FanIn((0, ..., n - 2))`; `FanIn(())` for a leaf with fewer than two axes.

    Example:
      >>> import jax.numpy as jnp, optax_gc
      >>> optax_gc.last_axis_out((), jnp.zeros((3, 3, 64, 128)))
      FanIn((0, 1, 2))
    """
    del path
    return _fan_in_of_matrix(leaf, range(len(leaf.shape) - 1))


def first_axis_out(path: KeyPath, leaf: jax.Array) -> FanIn:
    """Return all axes but the first: the fan-in of PyTorch and Equinox weights.

    Args:
      path: The key path of the leaf, which is not used.
      leaf: Any object with a `shape`.

    Returns:
      `FanIn((1, ..., n - 1))`; `FanIn(())` for a leaf with fewer than two axes.

    Example:
      >>> import jax.numpy as jnp, optax_gc
      >>> optax_gc.first_axis_out((), jnp.zeros((128, 64, 3, 3)))
      FanIn((1, 2, 3))
    """
    del path
    return _fan_in_of_matrix(leaf, range(1, len(leaf.shape)))


def whole_tensor(path: KeyPath, leaf: jax.Array) -> FanIn:
    """Return all axes, so that the update is `g - mean(g)`. This is not the GC of the paper.

    It removes one mean per weight and not one mean per output unit. Some implementations do this;
    the rule exists for comparisons with them.

    Args:
      path: The key path of the leaf, which is not used.
      leaf: Any object with a `shape`.

    Returns:
      `FanIn((0, ..., n - 1))`; `FanIn(())` for a leaf with fewer than two axes.

    Example:
      >>> import jax.numpy as jnp, optax_gc
      >>> optax_gc.whole_tensor((), jnp.zeros((3, 3, 64, 128)))
      FanIn((0, 1, 2, 3))
    """
    del path
    return _fan_in_of_matrix(leaf, range(len(leaf.shape)))


_NO_FAN_IN = re.compile(
    r"b|bias(es)?|scales?|offsets?|gamma|beta"  # added or multiplied per feature
    r"|(bias|b)_.*|.*_(bias|scale|offset)|.*(?<!lora)_b"
    r"|.*(embed|token|position).*|pos|cls"  # tables and tokens, which are looked up or added
)
_FIRST_AXIS_OUT = re.compile(r"weight(_.*)?|.*_weight")
_LAST_AXIS_OUT = frozenset({"kernel", "w"})
_ATTENTION_INPUTS = frozenset({"query", "key", "value"})
_EMBEDDING = re.compile(  # layers whose `weight` is a table of vectors
    r".*embed.*|emb|.*_emb|emb_.*|w[tp]e|shared|(tok|token|pos|position|vocab)s?(_table)?"
)
_SEPARATOR = re.compile(r"[./]")


def by_name(path: KeyPath, leaf: jax.Array) -> FanIn:
    """Return the fan-in given by the leaf's name and shape. This is the default rule.

    | leaf | fan-in |
    |---|---|
    | `query/kernel`, `key/kernel`, `value/kernel` of shape (d, heads, head_dim) | axis 0 |
    | `kernel`, `w` | all axes but the last |
    | `weight`, `weight_*`, `*_weight` | all axes but the first |
    | biases, scales, offsets, embeddings, tokens, position tables | none |
    | any other leaf of two or more axes | all axes but the last |

    The name is the last one in the path, and the layer is the one before it, however the path
    joins names: `{"conv1": {"weight": ...}}`, `{"conv1.weight": ...}`, `{"block/conv1/kernel":
    ...}` and `{("block", "conv1", "kernel"): ...}` have the same axes as in nested dicts. Indices
    of lists and the boxes of Flax are not names.

    A name does not show that `nn.scan` added a leading axis of layers to a kernel, or that a
    transposed convolution swapped the axes of its kernel. Use `infer_axes` for such models.

    Args:
      path: The key path of the leaf, as given by `jax.tree_util.tree_flatten_with_path`.
      leaf: Any object with a `shape`.

    Returns:
      The leaf's `FanIn`. If the leaf is left alone, its `note` gives the reason.

    Example:
      >>> import jax, jax.numpy as jnp, optax_gc
      >>> params = {"kernel": jnp.zeros((5, 7)), "bias": jnp.zeros(7)}
      >>> jax.tree_util.tree_map_with_path(optax_gc.by_name, params)
      {'bias': FanIn((), note='bias'), 'kernel': FanIn((0,))}
    """
    *layers, name = _names(path) or [""]
    layer = layers[-1] if layers else ""
    if name in _LAST_AXIS_OUT:
        if layer in _ATTENTION_INPUTS and len(leaf.shape) >= 3:
            return FanIn((len(leaf.shape) - 3,))
        return last_axis_out(path, leaf)
    if _FIRST_AXIS_OUT.fullmatch(name):
        if _EMBEDDING.fullmatch(layer.lower()) and len(leaf.shape) == 2:
            return FanIn((), note=layer)
        return first_axis_out(path, leaf)
    if _NO_FAN_IN.fullmatch(name.lower()):
        return FanIn((), note=name)
    fan_in = last_axis_out(path, leaf)
    return dataclasses.replace(fan_in, note=fan_in.note or "by its shape: the name is unknown")


def _fan_in_of_matrix(leaf: jax.Array, axes: Iterable[int]) -> FanIn:
    if len(leaf.shape) < 2:
        return FanIn((), note="fewer than two axes")
    return FanIn(tuple(axes))


def _names(path: KeyPath) -> list[str]:
    """Return the names in `path`, without the indices of lists and the box of a Flax leaf."""
    names = [name for key in path for name in _names_in_key(key) if not name.isdigit()]
    is_boxed = path and isinstance(path[-1], jax.tree_util.GetAttrKey) and names[-1:] == ["value"]
    return names[:-1] if is_boxed and len(names) > 1 else names


def _names_in_key(key: Any) -> list[str]:
    """Return the names in one key of a path, which flat dicts join with a dot or a slash."""
    if isinstance(key, jax.tree_util.DictKey) and isinstance(key.key, tuple):
        parts = [str(part) for part in key.key]
    else:
        parts = [jax.tree_util.keystr((key,), simple=True)]
    return [name for part in parts for name in _SEPARATOR.split(part) if name]
