"""Normalization of the activations after a convolution, or of its weights."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from train.errors import UserError
from train.models.layers.conv import Conv

HE_NORMAL = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
"""Initializer of kernels before a ReLU (He et al. 2015, arXiv 1502.01852)."""

_GROUPS = 32  # as in Wu and He 2018 and in the GC paper
_EPS = 1e-5


class Normalization(NamedTuple):
    """The normalization of a network.

    Attributes:
      name: "batch" (Ioffe and Szegedy 2015, arXiv 1502.03167), "group" (Wu and He 2018, arXiv
        1803.08494; 32 groups, or one group per feature if there are fewer than 32 features),
        "weight" (Salimans and Kingma 2016, arXiv 1602.07868) or "none".
      weight_standardization: Whether the weights of convolutions are also standardized (Qiao et
        al. 2019, arXiv 1903.10520).
    """

    name: str = "batch"
    weight_standardization: bool = False

    def conv(self, *args: Any, use_bias: bool = False, **kwargs: Any) -> Conv:
        """Return a convolution whose weights are normalized as described.

        The arguments are those of `Conv`. The convolution has a bias if no normalization layer,
        which would have one, follows.
        """
        conv_class = Conv
        if self.name == "weight":
            conv_class = NormalizedConv
        elif self.weight_standardization:
            conv_class = StandardizedConv
        use_bias = use_bias or self.name in ("weight", "none")
        return conv_class(*args, use_bias=use_bias, **kwargs)

    def layer(self, width: int, dtype: Any, rngs: nnx.Rngs) -> nnx.BatchNorm | nnx.GroupNorm | None:
        """Return the layer after a convolution of `width` features, for `normalize`; or None."""
        if self.name == "batch":
            return nnx.BatchNorm(width, momentum=0.9, epsilon=_EPS, dtype=dtype, rngs=rngs)
        if self.name == "group":
            groups = min(_GROUPS, width)
            return nnx.GroupNorm(width, groups, epsilon=_EPS, dtype=dtype, rngs=rngs)
        return None


def make_normalization(name: str, weight_standardization: bool) -> Normalization:
    """Return the normalization that these two fields of `config.model` describe.

    Raises:
      UserError: If both normalize the weights.
    """
    if name == "weight" and weight_standardization:
        raise UserError(
            "config.model.norm='weight' divides the weights of each unit by their norm, and "
            "config.model.weight_standardization=True by their standard deviation; set one of them"
        )
    return Normalization(name, weight_standardization)


def normalize(layer: nnx.BatchNorm | nnx.GroupNorm | None, x: jax.Array, train: bool) -> jax.Array:
    """Apply a layer that `Normalization.layer` returned."""
    if isinstance(layer, nnx.BatchNorm):
        return layer(x, use_running_average=not train)
    return x if layer is None else layer(x)


class ConvNorm(nnx.Module):
    """A convolution and its normalization."""

    def __init__(
        self,
        features: int,
        width: int,
        kernel_size: tuple[int, int],
        stride: int = 1,
        *,
        norm: Normalization,
        dtype: Any,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        """Create the layers; `options` are further arguments of `Conv`."""
        self.conv = norm.conv(
            features,
            width,
            kernel_size,
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
    """Convolution with weight standardization: the input is convolved with `standardize(kernel)`.

    The loss does not change when a constant is added to the weights of a unit, so the gradient of
    the stored kernel already has a fan-in mean of zero. Gradient centralization then removes only
    the mean of L2 decay, which does not affect the outputs.
    """

    def weight(self) -> jax.Array:
        return standardize(self.kernel[...])


class NormalizedConv(Conv):
    """Convolution with weight normalization: each unit has weights `scale * kernel / |kernel|`.

    The initial scale is |kernel|, so that training starts with the initial kernel itself. Gradient
    centralization applies to the gradient of the kernel, not to that of the scale.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.scale = nnx.Param(_norms(self.kernel[...]))

    def weight(self) -> jax.Array:
        kernel = self.kernel[...]
        return kernel * (self.scale[...] / _norms(kernel))[None, None, None]


def standardize(kernel: jax.Array) -> jax.Array:
    """Return a kernel with mean 0 and variance 1 / fan-in over the inputs of each output unit.

    Qiao et al. use variance 1. Before a normalization layer there is no difference; without one,
    1 / fan-in keeps the scale of the activations.

    Args:
      kernel: float32, (height, width, in, out).
    """
    fan_in = kernel[..., 0].size
    mean = jnp.mean(kernel, (0, 1, 2), keepdims=True)
    variance = jnp.var(kernel, (0, 1, 2), keepdims=True)
    return (kernel - mean) * jax.lax.rsqrt(fan_in * variance + _EPS)


def _norms(kernel: jax.Array) -> jax.Array:
    """Return the norm of the weights of each output unit: (height, width, in, out) to (out,)."""
    return jnp.sqrt(jnp.sum(kernel**2, (0, 1, 2)))
