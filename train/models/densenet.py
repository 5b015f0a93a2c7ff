"""DenseNet-121 (Huang et al. 2017, arXiv 1608.06993) as the authors of GC had it on CIFAR-100."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from train.models.layers.conv import Conv
from train.models.layers.norm import HE_NORMAL, Normalization, normalize
from train.models.layers.relu import relu

_GROWTH = 32
_STAGES = (6, 12, 24, 16)  # layers of each
SMALLEST_SIDE = 2 ** (len(_STAGES) - 1)
"""Of an image, in pixels: what lies between two stages halves it."""


class DenseNet121(nnx.Module):
    """3x3 stem, four dense stages with transitions between them, classifier of the mean."""

    def __init__(self, *, num_classes: int, channels: int, dtype: Any, rngs: nnx.Rngs):
        features = 2 * _GROWTH
        self.stem = Conv(channels, features, (3, 3), kernel_init=HE_NORMAL, dtype=dtype, rngs=rngs)
        stages: list[nnx.Module] = []
        transitions: list[nnx.Module] = []
        for stage, count in enumerate(_STAGES):
            if stage > 0:
                transitions.append(NormConv(features, features // 2, (1, 1), dtype, rngs))
                features //= 2
            stages.append(DenseStage(features, count, dtype, rngs))
            features += count * _GROWTH
        self.stages, self.transitions = nnx.List(stages), nnx.List(transitions)
        self.norm = Normalization().layer(features, dtype, rngs)
        self.head = nnx.Linear(features, num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = self.stages[0](self.stem(images), train)
        for transition, stage in zip(self.transitions, self.stages[1:], strict=True):
            x = stage(nnx.avg_pool(transition(x, train), (2, 2), (2, 2)), train)
        return self.head(jnp.mean(relu(normalize(self.norm, x, train)), (1, 2)))


class DenseStage(nnx.Module):
    """Layers that each add what they make of everything before them to it."""

    def __init__(self, features: int, count: int, dtype: Any, rngs: nnx.Rngs):
        widths = range(features, features + count * _GROWTH, _GROWTH)
        self.layers = nnx.List([DenseLayer(width, dtype, rngs) for width in widths])

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for layer in self.layers:
            x = jnp.concatenate([layer(x, train), x], -1)
        return x


class DenseLayer(nnx.Module):
    """1x1 to four times the growth, 3x3 to the growth."""

    def __init__(self, features: int, dtype: Any, rngs: nnx.Rngs):
        self.conv1 = NormConv(features, 4 * _GROWTH, (1, 1), dtype, rngs)
        self.conv2 = NormConv(4 * _GROWTH, _GROWTH, (3, 3), dtype, rngs)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return self.conv2(self.conv1(x, train), train)


class NormConv(nnx.Module):
    """Batch normalization, rectifier, convolution without bias."""

    def __init__(
        self, features: int, width: int, window: tuple[int, int], dtype: Any, rngs: nnx.Rngs
    ):
        self.norm = Normalization().layer(features, dtype, rngs)
        self.conv = Conv(features, width, window, kernel_init=HE_NORMAL, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return self.conv(relu(normalize(self.norm, x, train)))
