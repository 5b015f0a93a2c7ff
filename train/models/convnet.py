"""A small convolutional network of 0.1 million parameters, designed for the 8x8 digits."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from train.models.layers.conv import relu
from train.models.layers.norm import Normalization, normalize


class ConvNet(nnx.Module):
    """Three 3x3 convolutions with normalization, global average pooling, and a classifier."""

    def __init__(
        self, *, num_classes: int, channels: int, norm: Normalization, dtype: Any, rngs: nnx.Rngs
    ):
        self.conv1 = norm.conv(channels, 32, (3, 3), dtype=dtype, rngs=rngs)
        self.norm1 = norm.layer(32, dtype, rngs)
        self.conv2 = norm.conv(32, 64, (3, 3), dtype=dtype, rngs=rngs)
        self.norm2 = norm.layer(64, dtype, rngs)
        self.conv3 = norm.conv(64, 128, (3, 3), 2, dtype=dtype, rngs=rngs)
        self.norm3 = norm.layer(128, dtype, rngs)
        self.head = nnx.Linear(128, num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = relu(normalize(self.norm1, self.conv1(images), train))
        x = relu(normalize(self.norm2, self.conv2(x), train))
        x = nnx.relu(normalize(self.norm3, self.conv3(x), train))
        return self.head(jnp.mean(x, (1, 2)))
