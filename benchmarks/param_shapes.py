"""Parameter shapes of large models in Flax's layout, and random arrays of these shapes."""

from typing import Any

import jax
import numpy as np

Tree = Any
"""Nested dicts of shapes or arrays."""


def resnet50() -> Tree:
    """Return the parameter shapes of a ResNet-50, 25,557,032 parameters in total."""
    shapes: Tree = {"stem": {"kernel": (7, 7, 3, 64)}, "stem_norm": _norm(64)}
    width_in = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for block in range(blocks):
            kernels = [(1, 1, width_in, width), (3, 3, width, width), (1, 1, width, 4 * width)]
            if block == 0:
                kernels.append((1, 1, width_in, 4 * width))
            shapes[f"stage{stage}_block{block}"] = {
                f"conv{i}": {"kernel": kernel} for i, kernel in enumerate(kernels)
            } | {f"norm{i}": _norm(kernel[-1]) for i, kernel in enumerate(kernels)}
            width_in = 4 * width
    return shapes | {"head": {"kernel": (width_in, 1000), "bias": (1000,)}}


def transformer(
    width: int = 768, heads: int = 12, vocabulary: int = 32_000, positions: int = 1024
) -> Tree:
    """Return the parameter shapes of a transformer with 12 blocks."""
    head = width // heads
    block = {
        **{
            name: {"kernel": (width, heads, head), "bias": (heads, head)}
            for name in ("query", "key", "value")
        },
        "out": {"kernel": (heads, head, width), "bias": (width,)},
        "up": {"kernel": (width, 4 * width), "bias": (4 * width,)},
        "down": {"kernel": (4 * width, width), "bias": (width,)},
        "norm1": _norm(width),
        "norm2": _norm(width),
    }
    return {
        "embedding": (vocabulary, width),
        "pos_embedding": (positions, width),
        **{f"block{i}": block for i in range(12)},
        "norm": _norm(width),
    }


def random_arrays(shapes: Tree, seed: int, mean: float = 0.0) -> Tree:
    """Return float32 NumPy arrays of these shapes: normal with a mean and a deviation of 1."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: rng.standard_normal(shape, np.float32) + np.float32(mean),
        shapes,
        is_leaf=lambda node: isinstance(node, tuple),
    )


def _norm(width: int) -> Tree:
    return {"scale": (width,), "bias": (width,)}
