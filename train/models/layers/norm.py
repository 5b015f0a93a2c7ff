"""Normalization: of the activations after a convolution, or of the weights in it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from train.errors import UserError
from train.models.layers.conv import Conv

HE_NORMAL = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
"""PretrainedWeights kernels of He et al. 2015 (arXiv 1502.01852), for rectified activations."""

_GROUPS = 32  # as Wu and He have it, and the authors of gradient centralization
_EPS = 1e-5


class Normalization(NamedTuple):
    """What a network is normalized by.

    Attributes:
      name: "batch" (Ioffe and Szegedy 2015, arXiv 1502.03167), "group" (Wu and He 2018, arXiv
        1803.08494; 32 groups, or as many as there are features where they are fewer), "weight"
        (Salimans and Kingma 2016, arXiv 1602.07868) or "none".
      weight_standardization: whether the weights of convolutions are standardized too (Qiao et al.
        2019, arXiv 1903.10520).
    """

    name: str = "batch"
    weight_standardization: bool = False

    def conv(self, *args: Any, use_bias: bool = False, **kwargs: Any) -> Conv:
        """A convolution with the arguments of `Conv`, its weights normalized if they are to be.

        It has a bias where no layer with a bias of its own follows.
        """
        make = Conv
        if self.name == "weight":
            make = NormalizedConv
        elif self.weight_standardization:
            make = StandardizedConv
        return make(*args, use_bias=use_bias or self.name in ("weight", "none"), **kwargs)

    def layer(self, width: int, dtype: Any, rngs: nnx.Rngs) -> nnx.BatchNorm | nnx.GroupNorm | None:
        """What stands after a convolution of so many features; `normalize` calls it."""
        if self.name == "batch":
            return nnx.BatchNorm(width, momentum=0.9, epsilon=_EPS, dtype=dtype, rngs=rngs)
        if self.name == "group":
            groups = min(_GROUPS, width)
            return nnx.GroupNorm(width, groups, epsilon=_EPS, dtype=dtype, rngs=rngs)
        return None


def of(name: str, weight_standardization: bool) -> Normalization:
    """The normalization that two fields of a config describe.

    Raises:
      UserError: they contradict each other.
    """
    if name == "weight" and weight_standardization:
        raise UserError(
            "config.model.norm='weight' divides each unit's weights by their norm, and "
            "config.model.weight_standardization=True by their deviation; set one of them"
        )
    return Normalization(name, weight_standardization)


def normalize(layer: nnx.BatchNorm | nnx.GroupNorm | None, x: jax.Array, train: bool) -> jax.Array:
    """Applies what `Normalization.layer` made."""
    if isinstance(layer, nnx.BatchNorm):
        return layer(x, use_running_average=not train)
    return x if layer is None else layer(x)


class ConvNorm(nnx.Module):
    """A convolution, then its normalization: (batch, h, w, features) in, width out."""

    def __init__(
        self,
        features: int,
        width: int,
        window: tuple[int, int],
        stride: int = 1,
        *,
        norm: Normalization,
        dtype: Any,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        """Args: options: further ones of `Conv`."""
        self.conv = norm.conv(
            features,
            width,
            window,
            stride,
            kernel_init=HE_NORMAL,
            dtype=dtype,
            rngs=rngs,
            **options,
        )
        self.norm = norm.layer(width, dtype, rngs)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return normalize(self.norm, self.conv(x), train)


class StandardizedConv(Conv):
    """Weight standardization: what convolves is `standardized(kernel)`.

    The loss then does not change when a constant is added to a unit's weights, so the gradient of
    the stored kernel has a fan-in mean of zero already, and gradient centralization finds nothing
    to remove of it but what L2 decay added, which cannot change the network's outputs.
    """

    def weight(self) -> jax.Array:
        return standardized(self.kernel[...])


class NormalizedConv(Conv):
    """Weight normalization: what convolves is `scale * kernel / |kernel|`, unit by unit.

    At first scale is |kernel|, so that training begins with the kernel as it was initialized.
    Gradient centralization centres the gradient of the kernel, not that of the scale.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.scale = nnx.Param(_norms(self.kernel[...]))

    def weight(self) -> jax.Array:
        kernel = self.kernel[...]
        return kernel * (self.scale[...] / _norms(kernel))[None, None, None]


def standardized(kernel: jax.Array) -> jax.Array:
    """The kernel with mean 0 and variance 1 / fan-in over each output unit's inputs.

    Qiao et al. have variance 1, which the normalization after the convolution makes the same; so
    activations keep their size where there is none.

    Args:
      kernel: (h, w, in, out), float32.
    """
    fan_in = kernel[..., 0].size
    mean = jnp.mean(kernel, (0, 1, 2), keepdims=True)
    variance = jnp.var(kernel, (0, 1, 2), keepdims=True)
    return (kernel - mean) * jax.lax.rsqrt(fan_in * variance + _EPS)


def _norms(kernel: jax.Array) -> jax.Array:
    """The norm of each output unit's weights: (h, w, in, out) to (out,)."""
    return jnp.sqrt(jnp.sum(kernel**2, (0, 1, 2)))
