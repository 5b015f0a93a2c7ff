"""The heads of boxes and masks (He et al. 2017, arXiv 1703.06870)."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from train.models.layers.conv import Conv, relu
from train.models.layers.norm import ConvNorm, Normalization

_XAVIER = nnx.initializers.xavier_uniform()
_HE_FAN_IN = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")
_UPSAMPLING = 2


class BoxHead(nnx.Module):
    """Convolutions, fully connected layers, and the logits and deltas of each class.

    Args:
      cells: The cells along each side of a box.
      features: The features of a cell.
      num_convs: The number of 3x3 convolutions.
      num_linears: The number of fully connected layers.
      width: Their units.
      num_classes: The number of classes without the background.
      norm: The normalization of the convolutions.
      dtype: The dtype of the activations.
      rngs: For the initial parameters.
    """

    def __init__(
        self,
        cells: int,
        features: int,
        num_convs: int,
        num_linears: int,
        width: int,
        num_classes: int,
        *,
        norm: Normalization,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "rngs": rngs}
        self.convs = _convs(num_convs, features, norm, dtype, rngs)
        sizes = [cells * cells * features, *[width] * num_linears]
        self.linears = nnx.List(
            [
                nnx.Linear(*size, kernel_init=_XAVIER, **options)
                for size in itertools.pairwise(sizes)
            ]
        )
        normal = nnx.initializers.normal
        self.logits = nnx.Linear(sizes[-1], num_classes + 1, kernel_init=normal(0.01), **options)
        self.deltas = nnx.Linear(sizes[-1], num_classes * 4, kernel_init=normal(0.001), **options)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return logits and deltas in float32.

        Args:
          x: The features of boxes, (..., cells, cells, features).

        Returns:
          The logits, (..., classes + 1), the last of which is that of the background; and the
          deltas of each class, (..., classes, 4).
        """
        leading = x.shape[:-3]
        x = x.reshape(-1, *x.shape[-3:])
        for conv in self.convs:
            x = relu(conv(x, False))
        x = x.reshape(len(x), -1)
        for linear in self.linears:
            x = relu(linear(x))
        logits, deltas = (layer(x).astype(jnp.float32) for layer in (self.logits, self.deltas))
        return logits.reshape(*leading, -1), deltas.reshape(*leading, -1, 4)


class MaskHead(nnx.Module):
    """3x3 convolutions, upsampling by a factor of 2, and a mask for each class.

    The upsampling is a transposed convolution of 2x2 with stride 2. As its windows do not overlap,
    it equals a 1x1 convolution to four times the features, which become 2x2 pixels. That is faster
    on a CPU, and shows what the fan-in is: each output is a sum over the input features alone.

    Args:
      features: The features of a cell.
      num_convs: The number of convolutions.
      num_classes: The number of classes without the background.
      norm: The normalization of the convolutions.
      dtype: The dtype of the activations.
      rngs: For the initial parameters.
    """

    def __init__(
        self,
        features: int,
        num_convs: int,
        num_classes: int,
        *,
        norm: Normalization,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "rngs": rngs}
        self.convs = _convs(num_convs, features, norm, dtype, rngs)
        self.upsample = Conv(
            features, features * _UPSAMPLING**2, (1, 1), kernel_init=_HE_FAN_IN, **options
        )
        self.upsample_bias = nnx.Param(jnp.zeros(features))
        normal = nnx.initializers.normal(0.001)
        self.logits = Conv(
            features, num_classes, (1, 1), use_bias=True, kernel_init=normal, **options
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the logits of masks, float32 (..., 2 * cells, 2 * cells, classes).

        Args:
          x: The features of boxes, (..., cells, cells, features).
        """
        leading = x.shape[:-3]
        x = x.reshape(-1, *x.shape[-3:])
        for conv in self.convs:
            x = relu(conv(x, False))
        x = _to_pixels(self.upsample(x))
        x = relu(x + self.upsample_bias[...].astype(x.dtype)[None, None, None])
        logits = self.logits(x).astype(jnp.float32)
        return logits.reshape(*leading, *logits.shape[1:])


def _convs(
    number: int, features: int, norm: Normalization, dtype: Any, rngs: nnx.Rngs
) -> nnx.List[ConvNorm]:
    return nnx.List(
        [
            ConvNorm(features, features, (3, 3), norm=norm, dtype=dtype, rngs=rngs)
            for _ in range(number)
        ]
    )


def _to_pixels(x: jax.Array) -> jax.Array:
    """Return (n, h, w, 4 c) as (n, 2 h, 2 w, c): the pixel shuffle of arXiv 1609.05158."""
    count, height, width, depth = x.shape
    factor = _UPSAMPLING
    x = x.reshape(count, height, width, factor, factor, depth // factor**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(count, height * factor, width * factor, -1)
