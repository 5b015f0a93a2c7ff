"""A small convolutional net for small images: 0.1 M parameters, made for the digits."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from train.models.conv import conv
from train.models.relu import relu


class ConvNet(nnx.Module):
    """Three 3x3 convolutions with batch normalization, mean over the pixels, classifier."""

    def __init__(self, *, num_classes: int, channels: int, dtype: Any, rngs: nnx.Rngs):
        self.conv1 = conv(channels, 32, (3, 3), dtype=dtype, rngs=rngs)
        self.norm1 = nnx.BatchNorm(32, momentum=0.9, dtype=dtype, rngs=rngs)
        self.conv2 = conv(32, 64, (3, 3), dtype=dtype, rngs=rngs)
        self.norm2 = nnx.BatchNorm(64, momentum=0.9, dtype=dtype, rngs=rngs)
        self.conv3 = conv(64, 128, (3, 3), 2, dtype=dtype, rngs=rngs)
        self.norm3 = nnx.BatchNorm(128, momentum=0.9, dtype=dtype, rngs=rngs)
        self.head = nnx.Linear(128, num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = relu(self.norm1(self.conv1(images), use_running_average=not train))
        x = relu(self.norm2(self.conv2(x), use_running_average=not train))
        x = nnx.relu(self.norm3(self.conv3(x), use_running_average=not train))
        return self.head(jnp.mean(x, (1, 2)))
