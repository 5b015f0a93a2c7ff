"""ResNets (He et al. 2016, arXiv 1512.03385) for small images and for ImageNet.

ResNet-18, 34, 50 and 101 are those that the GC authors trained: on CIFAR-100 with a 3x3 stem and
no max pooling, on ImageNet with the 7x7 stem of He et al. In a bottleneck block the 3x3 convolution
has the stride. ResNet-8, 20, 32 and 56 are the narrow networks of He et al. for CIFAR, but with 1x1
convolutions in the shortcuts that change the shape.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from train.models.layers.conv import relu
from train.models.layers.norm import ConvNorm, Normalization

_MakeConv = Callable[..., ConvNorm]
_STEMS = {"3x3": ((3, 3), 1), "3x3/2": ((3, 3), 2), "7x7": ((7, 7), 2)}  # kernel size and stride


class ResNet(nnx.Module):
    """Stem, stages of residual blocks, global average pooling, classifier.

    Args:
      block: The class of the residual blocks.
      stage_sizes: The number of blocks in each stage.
      widths: The features of each stage, without the expansion of its blocks.
      num_classes: The number of logits.
      channels: The channels of the images.
      stem: "3x3", which keeps the size of an image, "3x3/2", which halves each side, or "7x7",
        which divides each side by 4.
      widen_factor: Factor of all widths, as in Wide ResNets (arXiv 1605.07146).
      remat: Whether the backward pass recomputes the inside of each block. The forward pass then
        stores only the inputs of the blocks.
      norm: The normalization of every convolution.
      dtype: The dtype of the activations.
      rngs: For the initial parameters.
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
        widen_factor: int,
        remat: bool,
        norm: Normalization,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        self.pools = stem == "7x7"
        self.remat = remat
        kernel_size, stride = _STEMS[stem]
        widths = tuple(width * widen_factor for width in widths)
        conv = functools.partial(ConvNorm, norm=norm, dtype=dtype, rngs=rngs)
        self.stem = conv(channels, widths[0], kernel_size, stride)
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
        if self.pools:
            x = nnx.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        apply = nnx.remat(_apply, static_argnums=2) if self.remat else _apply
        for block in self.blocks:
            x = apply(block, x, train)
        return self.head(jnp.mean(x, (1, 2)))


def _apply(block: nnx.Module, x: jax.Array, train: bool) -> jax.Array:
    return block(x, train)


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions and a shortcut."""

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
    """1x1 down, 3x3, 1x1 up to four times the width, and a shortcut."""

    expansion = 4
    groups = 1  # of the 3x3 convolution

    def __init__(self, features: int, width: int, stride: int, conv: _MakeConv):
        expanded = width * self.expansion
        self.conv1 = conv(features, width, (1, 1))
        self.conv2 = conv(width, width, (3, 3), stride, groups=self.groups)
        self.conv3 = conv(width, expanded, (1, 1))
        self.shortcut = _shortcut(features, expanded, stride, conv)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = relu(self.conv1(x, train))
        y = relu(self.conv2(y, train))
        y = self.conv3(y, train)
        shortcut = x if self.shortcut is None else self.shortcut(x, train)
        return relu(y + shortcut)


def _shortcut(features: int, width: int, stride: int, conv: _MakeConv) -> ConvNorm | None:
    if features == width and stride == 1:
        return None  # the identity
    return conv(features, width, (1, 1), stride)


_CIFAR_WIDTHS = (16, 32, 64)
_WIDTHS = (64, 128, 256, 512)

RESNETS = {
    "resnet8": functools.partial(ResNet, BasicBlock, (1, 1, 1), _CIFAR_WIDTHS),
    "resnet18": functools.partial(ResNet, BasicBlock, (2, 2, 2, 2), _WIDTHS),
    "resnet20": functools.partial(ResNet, BasicBlock, (3, 3, 3), _CIFAR_WIDTHS),
    "resnet32": functools.partial(ResNet, BasicBlock, (5, 5, 5), _CIFAR_WIDTHS),
    "resnet34": functools.partial(ResNet, BasicBlock, (3, 4, 6, 3), _WIDTHS),
    "resnet50": functools.partial(ResNet, Bottleneck, (3, 4, 6, 3), _WIDTHS),
    "resnet56": functools.partial(ResNet, BasicBlock, (9, 9, 9), _CIFAR_WIDTHS),
    "resnet101": functools.partial(ResNet, Bottleneck, (3, 4, 23, 3), _WIDTHS),
}
"""The models by name; called with the keyword arguments of `ResNet`."""
