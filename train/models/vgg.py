"""VGG11 (Simonyan and Zisserman 2015, arXiv 1409.1556) as the GC authors used it on CIFAR-100."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from train.models.layers.conv import relu
from train.models.layers.norm import ConvNorm, Normalization

# The features of each convolution, and whether max pooling follows it.
_LAYERS = (
    *((64, True), (128, True), (256, False), (256, True)),
    *((512, False), (512, True), (512, False), (512, True)),
)


class VGG11(nnx.Module):
    """Eight 3x3 convolutions with bias and batch normalization, five max poolings, classifier."""

    MIN_IMAGE_SIDE = 2 ** sum(pooled for _, pooled in _LAYERS)
    """The smallest height and width of an image, in pixels: each max pooling halves them."""

    def __init__(self, *, num_classes: int, channels: int, dtype: Any, rngs: nnx.Rngs):
        conv = functools.partial(ConvNorm, norm=Normalization(), dtype=dtype, rngs=rngs)
        layers: list[nnx.Module] = []
        features = channels
        for width, _ in _LAYERS:
            layers.append(conv(features, width, (3, 3), use_bias=True))
            features = width
        self.layers = nnx.List(layers)
        self.head = nnx.Linear(features, num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = images
        for layer, (_, pooled) in zip(self.layers, _LAYERS, strict=True):
            x = relu(layer(x, train))
            if pooled:
                x = nnx.max_pool(x, (2, 2), (2, 2))
        return self.head(jnp.mean(x, (1, 2)))
