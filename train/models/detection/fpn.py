"""Feature pyramid network (Lin et al. 2017, arXiv 1612.03144)."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from train.models.layers.norm import Normalization, normalize

_XAVIER = nnx.initializers.xavier_uniform()


class FPN(nnx.Module):
    """The maps of a backbone as maps with the same number of features, from fine to coarse.

    Each map of the backbone has a 1x1 convolution; the next coarser map of the pyramid, enlarged
    by repetition, is added; and a 3x3 convolution follows. Extra levels are every second row and
    column of the level before.

    Args:
      in_features: The features of the backbone's maps.
      features: The features of the pyramid.
      extra_levels: The number of extra levels.
      norm: The normalization after each convolution.
      dtype: The dtype of the activations.
      rngs: For the initial parameters.
    """

    def __init__(
        self,
        in_features: Sequence[int],
        features: int,
        extra_levels: int,
        *,
        norm: Normalization,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        options = {"norm": norm, "dtype": dtype, "rngs": rngs}
        self.lateral = nnx.List([_Conv(each, features, 1, **options) for each in in_features])
        self.output = nnx.List([_Conv(features, features, 3, **options) for _ in in_features])
        self.extra_levels = extra_levels

    def __call__(self, maps: Sequence[jax.Array]) -> list[jax.Array]:
        lateral = [conv(features) for conv, features in zip(self.lateral, maps, strict=True)]
        merged = [lateral[-1]]
        for finer in lateral[-2::-1]:
            merged.insert(0, finer + _enlarge(merged[0], finer.shape[1:3]))
        pyramid = [conv(features) for conv, features in zip(self.output, merged, strict=True)]
        for _ in range(self.extra_levels):
            pyramid.append(pyramid[-1][:, ::2, ::2])
        return pyramid


class _Conv(nnx.Module):
    """A convolution with a bias or a normalization, and no activation."""

    def __init__(
        self,
        features: int,
        width: int,
        side: int,
        *,
        norm: Normalization,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        kernel_size = (side, side)
        self.conv = norm.conv(
            features, width, kernel_size, kernel_init=_XAVIER, dtype=dtype, rngs=rngs
        )
        self.norm = norm.layer(width, dtype, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return normalize(self.norm, self.conv(x), train=False)


def _enlarge(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return a map with each value repeated twice along both sides, cut to a shape."""
    height, width = shape
    return jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)[:, :height, :width]
