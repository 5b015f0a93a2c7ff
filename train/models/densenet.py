"""DenseNet-121 (Huang et al. 2017, arXiv 1608.06993) as the GC authors used it on CIFAR-100."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from train.models.layers.conv import Conv, relu
from train.models.layers.norm import HE_NORMAL, Normalization, normalize

_STAGE_SIZES = (6, 12, 24, 16)


class DenseNet(nnx.Module):
    """3x3 stem, dense stages with transitions between them, global average pooling, classifier.

    Args:
      stage_sizes: The number of layers in each stage.
      growth_rate: The number of features that each layer adds.
      num_classes: The number of logits.
      channels: The channels of the images.
      dtype: The dtype of the activations.
      rngs: For the initial parameters.
    """

    MIN_IMAGE_SIDE = 2 ** (len(_STAGE_SIZES) - 1)
    """The smallest height and width of an image, in pixels: each transition halves them."""

    def __init__(
        self,
        stage_sizes: tuple[int, ...],
        growth_rate: int,
        *,
        num_classes: int,
        channels: int,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        features = 2 * growth_rate
        self.stem = Conv(channels, features, (3, 3), kernel_init=HE_NORMAL, dtype=dtype, rngs=rngs)
        stages: list[nnx.Module] = []
        transitions: list[nnx.Module] = []
        for stage, size in enumerate(stage_sizes):
            if stage > 0:
                transitions.append(NormConv(features, features // 2, (1, 1), dtype, rngs))
                features //= 2
            stages.append(DenseStage(features, size, growth_rate, dtype, rngs))
            features += size * growth_rate
        self.stages, self.transitions = nnx.List(stages), nnx.List(transitions)
        self.norm = Normalization().layer(features, dtype, rngs)
        self.head = nnx.Linear(features, num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = self.stages[0](self.stem(images), train)
        for transition, stage in zip(self.transitions, self.stages[1:], strict=True):
            x = stage(nnx.avg_pool(transition(x, train), (2, 2), (2, 2)), train)
        return self.head(jnp.mean(relu(normalize(self.norm, x, train)), (1, 2)))


class DenseStage(nnx.Module):
    """Layers whose outputs are each concatenated to their inputs."""

    def __init__(self, features: int, size: int, growth_rate: int, dtype: Any, rngs: nnx.Rngs):
        widths = range(features, features + size * growth_rate, growth_rate)
        self.layers = nnx.List([DenseLayer(width, growth_rate, dtype, rngs) for width in widths])

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for layer in self.layers:
            x = jnp.concatenate([layer(x, train), x], -1)
        return x


class DenseLayer(nnx.Module):
    """1x1 convolution to four times the growth rate, then 3x3 convolution to the growth rate."""

    def __init__(self, features: int, growth_rate: int, dtype: Any, rngs: nnx.Rngs):
        self.conv1 = NormConv(features, 4 * growth_rate, (1, 1), dtype, rngs)
        self.conv2 = NormConv(4 * growth_rate, growth_rate, (3, 3), dtype, rngs)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return self.conv2(self.conv1(x, train), train)


class NormConv(nnx.Module):
    """Batch normalization, ReLU, and convolution without bias."""

    def __init__(
        self, features: int, width: int, kernel_size: tuple[int, int], dtype: Any, rngs: nnx.Rngs
    ):
        self.norm = Normalization().layer(features, dtype, rngs)
        self.conv = Conv(
            features, width, kernel_size, kernel_init=HE_NORMAL, dtype=dtype, rngs=rngs
        )

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return self.conv(relu(normalize(self.norm, x, train)))


DenseNet121 = functools.partial(DenseNet, _STAGE_SIZES, 32)
"""Called with the keyword arguments of `DenseNet`."""
