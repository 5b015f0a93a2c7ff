"""Backbones: residual networks that return the maps of their stages.

ResNet-50 and 101 (He et al. 2016, arXiv 1512.03385), and ResNeXt-101 with 32 or 64 groups, of 4
features each in the first stage (Xie et al. 2017, arXiv 1611.05431).
"""

import dataclasses
import functools
from typing import Any

import jax
from flax import nnx

from train.models.layers.conv import relu
from train.models.layers.norm import ConvNorm, Normalization
from train.models.resnet import BasicBlock, Bottleneck
from train.models.resnext import GroupedBottleneck

_STEM_STRIDE = 4  # of the convolution and the max pooling


class Bottleneck32x4(GroupedBottleneck):
    """A bottleneck whose 3x3 convolution has 32 groups, of 4 features in the first stage."""

    expansion = 2
    groups = 32


class Bottleneck64x4(GroupedBottleneck):
    """A bottleneck whose 3x3 convolution has 64 groups, of 4 features in the first stage."""

    expansion = 1
    groups = 64


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The structure of a backbone.

    Attributes:
      block: The class of the residual blocks.
      stage_sizes: The number of blocks in each stage; the first has stride 4, each further one
        twice the stride of the one before.
      widths: The features of each stage, without the expansion of its blocks.
      stem_features: The features of the stem.
      stem_kernel: The side of the kernel of the stem.
    """

    block: type[BasicBlock] | type[Bottleneck]
    stage_sizes: tuple[int, ...]
    widths: tuple[int, ...]
    stem_features: int = 64
    stem_kernel: int = 7

    @property
    def strides(self) -> tuple[int, ...]:
        """The strides of the stages."""
        return tuple(_STEM_STRIDE * 2**stage for stage in range(len(self.widths)))

    @property
    def features(self) -> tuple[int, ...]:
        """The features of the maps of the stages."""
        return tuple(width * self.block.expansion for width in self.widths)


_SIZES_50, _SIZES_101 = (3, 4, 6, 3), (3, 4, 23, 3)

BACKBONES = {
    "resnet50": Architecture(Bottleneck, _SIZES_50, (64, 128, 256, 512)),
    "resnet101": Architecture(Bottleneck, _SIZES_101, (64, 128, 256, 512)),
    "resnext101_32x4d": Architecture(Bottleneck32x4, _SIZES_101, (128, 256, 512, 1024)),
    "resnext101_64x4d": Architecture(Bottleneck64x4, _SIZES_101, (256, 512, 1024, 2048)),
    "small": Architecture(BasicBlock, (1, 1, 1), (32, 64, 128), stem_features=32, stem_kernel=3),
}
"""The backbones by name; "small" is for small images on a CPU."""


class Backbone(nnx.Module):
    """Stem and stages of residual blocks.

    The names of the parameters are those of `train.models.resnet.ResNet`, so that weights of
    PyTorch can be loaded in the same way.

    Args:
      architecture: The structure.
      norm: The normalization of every convolution.
      dtype: The dtype of the activations.
      rngs: For the initial parameters.
    """

    def __init__(
        self, architecture: Architecture, *, norm: Normalization, dtype: Any, rngs: nnx.Rngs
    ):
        conv = functools.partial(ConvNorm, norm=norm, dtype=dtype, rngs=rngs)
        features, kernel = architecture.stem_features, architecture.stem_kernel
        self.stem = conv(3, features, (kernel, kernel), 2)
        blocks: list[nnx.Module] = []
        for stage, width in enumerate(architecture.widths):
            for index in range(architecture.stage_sizes[stage]):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(architecture.block(features, width, stride, conv))
                features = width * architecture.block.expansion
        self.blocks = nnx.List(blocks)
        self.stage_sizes = architecture.stage_sizes

    def __call__(self, images: jax.Array, train: bool) -> list[jax.Array]:
        """Return the map of each stage, (batch, height / stride, width / stride, features)."""
        x = relu(self.stem(images, train))
        x = nnx.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        maps, blocks = [], iter(self.blocks)
        for size in self.stage_sizes:
            for _ in range(size):
                x = next(blocks)(x, train)
            maps.append(x)
        return maps
