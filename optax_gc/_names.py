"""`by_name`: the rule that finds a weight's fan-in axes from its name and shape."""

import dataclasses
import re
from typing import Any

import jax

from optax_gc._layouts import FanIn, KeyPath, fan_in_of_matrix

_NO_FAN_IN = re.compile(
    r"b|bias(es)?|scales?|offsets?|gamma|beta"  # added or multiplied per feature
    r"|(bias|b)_.*|.*_(bias|scale|offset)|(?!.*lora).*_b"
    r"|.*(embed|token|position).*|pos|cls"  # tables and tokens, which are looked up or added
)
_FIRST_AXIS_OUT = re.compile(r"weight(_.*)?|.*_weight")
_LAST_AXIS_OUT = frozenset({"kernel", "w"})
_ATTENTION_INPUTS = re.compile(r"query|key|value|to_[qkv]|[qkv](_proj)?|w[qkv]")
_GPT2_LAYERS = {"c_attn": 3, "c_fc": 4, "c_proj": 0}
"""Layers of GPT-2 by the ratio of their outputs to their inputs, if it is known.

Their kernels are (out, in) in Hugging Face's Flax models and (in, out) in others.
"""
_KNOWN_RANK_3 = re.compile(r".*conv.*|out.*|o(_proj)?|wo|to_out")
_EMBEDDING = re.compile(  # layers whose `weight` is a table of vectors
    r".*embed.*|emb|.*_emb|emb_.*|w[tp]e|shared|(tok|token|pos|position|vocab)s?(_table)?"
)
_SEPARATOR = re.compile(r"[./]")


def by_name(path: KeyPath, leaf: jax.Array) -> FanIn:
    """Return the fan-in given by the leaf's name and shape. This is the default rule.

    | leaf | fan-in |
    |---|---|
    | `kernel`, `w` | all axes but the last |
    | `kernel` (d, heads, head_dim) of `query`, `key`, `value`, `to_q`, `q_proj` ... | axis 0 |
    | `depthwise_kernel`, `kernel` of a depthwise convolution | all axes but the last two |
    | `kernel` of `c_attn`, `c_fc` and `c_proj` (GPT-2) | the input axis, if the shape shows it |
    | `weight`, `weight_*`, `*_weight` | all axes but the first |
    | biases, scales, offsets, embeddings, tokens, position tables | none |
    | any other leaf of two or more axes | all axes but the last |

    Below a `layer_stack` of Haiku, the first axis is the one of the layers.

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
      The leaf's `FanIn`. If the leaf is left alone, or only its shape is known, its `note` says so.

    Raises:
      ValueError: If a leaf of two or more axes in a list or tuple has no name.

    Examples:
      >>> import jax, jax.numpy as jnp, optax_gc
      >>> params = {"kernel": jnp.zeros((5, 7)), "bias": jnp.zeros(7)}
      >>> jax.tree_util.tree_map_with_path(optax_gc.by_name, params)
      {'bias': FanIn((), note='bias'), 'kernel': FanIn((0,))}
    """
    *layers, name = _names(path) or [""]
    if path and not name and len(leaf.shape) > 1:
        raise ValueError(
            f"by_name needs names: the leaf {jax.tree_util.keystr(path)} of shape {leaf.shape} has "
            "none. Use a rule such as optax_gc.last_axis_out, or the axes of optax_gc.infer_axes"
        )
    layer = layers[-1] if layers else ""
    if any("layer_stack" in layer for layer in layers):  # of Haiku, with a leading axis of layers
        fan_in = _by_names(layer, name, leaf.shape[1:])
        axes, out_axes = (
            [axis + 1 for axis in old or ()] for old in (fan_in.axes, fan_in.out_axes)
        )
        return dataclasses.replace(fan_in, axes=tuple(axes), out_axes=tuple(out_axes))
    return _by_names(layer, name, leaf.shape)


def _by_names(layer: str, name: str, shape: tuple[int, ...]) -> FanIn:
    rank = len(shape)
    if "depthwise" in f"{layer} {name}".lower() and rank >= 3 and not _is_first_axis_out(name):
        # (..., in, multiplier) or (..., 1, out)
        return FanIn(tuple(range(rank - 2)), out_axes=(rank - 2, rank - 1))
    if name in _LAST_AXIS_OUT:
        return _kernel_by_layer(layer, shape)
    if _is_first_axis_out(name):
        if _EMBEDDING.fullmatch(layer.lower()) and rank == 2:
            return FanIn((), note=layer)
        return fan_in_of_matrix(rank, range(1, rank))
    if _NO_FAN_IN.fullmatch(name.lower()):
        return FanIn((), note=name)
    fan_in = fan_in_of_matrix(rank, range(rank - 1))
    return dataclasses.replace(fan_in, note=fan_in.note or "by its shape: the name is unknown")


def _is_first_axis_out(name: str) -> bool:
    return _FIRST_AXIS_OUT.fullmatch(name) is not None


def _kernel_by_layer(layer: str, shape: tuple[int, ...]) -> FanIn:
    rank = len(shape)
    if layer in _GPT2_LAYERS and rank == 2:
        return _gpt2_kernel(layer, *shape)
    if _ATTENTION_INPUTS.fullmatch(layer) and rank >= 3:
        return FanIn((rank - 3,), out_axes=(rank - 2, rank - 1))
    fan_in = fan_in_of_matrix(rank, range(rank - 1))
    if rank == 3 and not _KNOWN_RANK_3.fullmatch(layer.lower()):
        note = "by its shape: a convolution, or another layer of three axes"
        return dataclasses.replace(fan_in, note=note)
    return fan_in


def _gpt2_kernel(layer: str, rows: int, columns: int) -> FanIn:
    ratio = _GPT2_LAYERS[layer]
    is_out_first = rows == ratio * columns if ratio else rows < columns
    is_out_last = columns == ratio * rows if ratio else rows > columns
    if is_out_first or is_out_last:
        return fan_in_of_matrix(2, (1,) if is_out_first else (0,))
    return FanIn((), note=f"{layer}: its shape does not show which axis is the input")


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
