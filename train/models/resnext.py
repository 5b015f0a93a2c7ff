"""ResNeXt-29 4x64d (Xie et al. 2017, arXiv 1611.05431) as the GC authors used it on CIFAR-100."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from train.models.layers.conv import relu
from train.models.layers.norm import ConvNorm, Normalization
from train.models.resnet import Bottleneck

_STEM_WIDTH = 64
_BLOCKS = 3  # in each stage
_WIDTHS = (4 * 64, 4 * 128, 4 * 256)  # of each stage: groups times width of a group


class GroupedBottleneck(Bottleneck):
    """1x1 down, 3x3 in four groups, 1x1 up to twice the width of the 3x3."""

    expansion = 2
    groups = 4


class ResNeXt29(nnx.Module):
    """1x1 stem, three stages of three blocks, global average pooling, classifier."""

    def __init__(self, *, num_classes: int, channels: int, dtype: Any, rngs: nnx.Rngs):
        conv = functools.partial(ConvNorm, norm=Normalization(), dtype=dtype, rngs=rngs)
        self.stem = conv(channels, _STEM_WIDTH, (1, 1))
        blocks: list[nnx.Module] = []
        features = _STEM_WIDTH
        for stage, width in enumerate(_WIDTHS):
            for index in range(_BLOCKS):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(GroupedBottleneck(features, width, stride, conv))
                features = width * GroupedBottleneck.expansion
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(features, num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = relu(self.stem(images, train))
        for block in self.blocks:
            x = block(x, train)
        return self.head(jnp.mean(x, (1, 2)))
