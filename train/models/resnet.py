"""ResNets (He et al. 2016, arXiv 1512.03385) for small images, and for those of ImageNet's size.

ResNet-18, 34, 50 and 101 are those that the authors of gradient centralization trained: on
CIFAR-100 with a 3x3 stem and no max pool, on ImageNet with the stem of He et al. In a bottleneck
the 3x3 convolution has the stride. ResNet-20 is the narrow one that He et al. made for CIFAR, with
1x1 convolutions where a shortcut changes shape.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from train.models.layers.norm import ConvNorm, Normalization
from train.models.layers.relu import relu

OPTIONS = {
    "stem": ("3x3", "7x7"),
    "remat": (False, True),
    "norm": ("batch", "group"),
    "weight_standardization": (False, True),
}
"""Fields of `config.model` that they know, and their values."""

_MakeConv = Callable[..., ConvNorm]


class ResNet(nnx.Module):
    """Stem, stages of residual blocks, mean over the pixels, classifier.

    Args:
      block: of what the stages are made.
      stage_sizes: blocks of each stage.
      widths: features of each stage, before its blocks' expansion.
      num_classes: of the classifier.
      channels: of the images.
      stem: "3x3", which keeps the size of an image, or "7x7", which leaves a quarter of each side.
      remat: whether the backward pass computes the inside of each block again, so that of the
        stages only the blocks' inputs are kept from the forward pass.
      norm: of every convolution.
      dtype: of activations.
      rngs: for the initial parameters.
    """

    def __init__(
        self,
        block: "type[BasicBlock] | type[Bottleneck]",
        stage_sizes: tuple[int, ...],
        widths: tuple[int, ...],
        *,
        num_classes: int,
        channels: int,
        stem: str,
        remat: bool,
        norm: Normalization,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        self.shrinks = stem == "7x7"
        self.remat = remat
        window, stride = ((7, 7), 2) if self.shrinks else ((3, 3), 1)
        conv = functools.partial(ConvNorm, norm=norm, dtype=dtype, rngs=rngs)
        self.stem = conv(channels, widths[0], window, stride)
        blocks: list[nnx.Module] = []
        features = widths[0]
        for stage, (size, width) in enumerate(zip(stage_sizes, widths, strict=True)):
            for index in range(size):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(block(features, width, stride, conv))
                features = width * block.expansion
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(features, num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = relu(self.stem(images, train))
        if self.shrinks:
            x = nnx.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        run = nnx.remat(_run, static_argnums=2) if self.remat else _run
        for block in self.blocks:
            x = run(block, x, train)
        return self.head(jnp.mean(x, (1, 2)))


def _run(block: nnx.Module, x: jax.Array, train: bool) -> jax.Array:
    return block(x, train)


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions."""

    expansion = 1

    def __init__(self, features: int, width: int, stride: int, conv: _MakeConv):
        self.conv1 = conv(features, width, (3, 3), stride)
        self.conv2 = conv(width, width, (3, 3))
        self.shortcut = _shortcut(features, width, stride, conv)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = relu(self.conv1(x, train))
        y = self.conv2(y, train)
        shortcut = x if self.shortcut is None else self.shortcut(x, train)
        return relu(y + shortcut)


class Bottleneck(nnx.Module):
    """1x1 down, 3x3, 1x1 up to four times the width."""

    expansion = 4
    groups = 1  # of the 3x3 convolution

    def __init__(self, features: int, width: int, stride: int, conv: _MakeConv):
        wide = width * self.expansion
        self.conv1 = conv(features, width, (1, 1))
        self.conv2 = conv(width, width, (3, 3), stride, groups=self.groups)
        self.conv3 = conv(width, wide, (1, 1))
        self.shortcut = _shortcut(features, wide, stride, conv)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = relu(self.conv1(x, train))
        y = relu(self.conv2(y, train))
        y = self.conv3(y, train)
        shortcut = x if self.shortcut is None else self.shortcut(x, train)
        return relu(y + shortcut)


def _shortcut(features: int, width: int, stride: int, conv: _MakeConv) -> ConvNorm | None:
    if features == width and stride == 1:
        return None
    return conv(features, width, (1, 1), stride)


_CIFAR_WIDTHS = (16, 32, 64)
_WIDTHS = (64, 128, 256, 512)

RESNETS = {
    "resnet18": functools.partial(ResNet, BasicBlock, (2, 2, 2, 2), _WIDTHS),
    "resnet20": functools.partial(ResNet, BasicBlock, (3, 3, 3), _CIFAR_WIDTHS),
    "resnet34": functools.partial(ResNet, BasicBlock, (3, 4, 6, 3), _WIDTHS),
    "resnet50": functools.partial(ResNet, Bottleneck, (3, 4, 6, 3), _WIDTHS),
    "resnet101": functools.partial(ResNet, Bottleneck, (3, 4, 23, 3), _WIDTHS),
}
"""Called with the keyword arguments of `ResNet`, each makes one."""
