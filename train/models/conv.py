"""A convolution whose gradients XLA:CPU compiles well wherever they stand."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

_NHWC = ("NHWC", "HWIO", "NHWC")
Strides = tuple[int, ...]
Padding = tuple[tuple[int, int], ...]


def conv(features: int, width: int, window: tuple[int, int], stride: int = 1, **kwargs: Any):
    """`nnx.Conv` without bias, padded by half a window: (batch, h, w, features) in, width out."""
    return nnx.Conv(
        features,
        width,
        window,
        stride,
        padding=[(size // 2, size // 2) for size in window],
        use_bias=False,
        conv_general_dilated=_conv_general_dilated,
        **kwargs,
    )


def _conv_general_dilated(x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **kwargs):
    del kwargs  # nnx.Conv's defaults: no dilation, one group
    return _convolve(x, kernel, tuple(strides), tuple(map(tuple, padding)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_NHWC)


def _forward(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding):
    return _convolve(x, kernel, strides, padding), (x, kernel)


def _backward(strides: Strides, padding: Padding, saved: Any, gradient: jax.Array):
    return jax.lax.platform_dependent(
        *saved,
        gradient,
        cpu=functools.partial(_gradients_as_plain_convolutions, strides, padding),
        default=functools.partial(_gradients, strides, padding),
    )


def _gradients(strides: Strides, padding: Padding, x: jax.Array, kernel: jax.Array, g: jax.Array):
    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_NHWC)

    return jax.vjp(convolve, x, kernel)[1](g)


def _gradients_as_plain_convolutions(
    strides: Strides, padding: Padding, x: jax.Array, kernel: jax.Array, g: jax.Array
):
    """The same with every operand transposed to NHWC and HWIO.

    JAX leaves the transposing to the compiler, and XLA:CPU does it only outside of loops: within,
    it computes such convolutions one by one, fifty times slower.
    """
    before_x, after_x, after_kernel = [], [], []
    for axis, (stride, (before, _)) in enumerate(zip(strides, padding, strict=True)):
        size, window = x.shape[axis + 1], kernel.shape[axis]
        spread = (g.shape[axis + 1] - 1) * stride + 1
        before_x.append(window - 1 - before)
        after_x.append(size + window - 1 - spread - before_x[-1])
        after_kernel.append(window - 1 + spread - size - before)
    gradient_x = jax.lax.conv_general_dilated(
        g,
        jnp.flip(kernel, (0, 1)).swapaxes(2, 3),
        (1, 1),
        list(zip(before_x, after_x, strict=True)),
        lhs_dilation=strides,
        dimension_numbers=_NHWC,
    )
    gradient_kernel = jax.lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        g.transpose(1, 2, 0, 3),
        (1, 1),
        [(before, after) for (before, _), after in zip(padding, after_kernel, strict=True)],
        rhs_dilation=strides,
        dimension_numbers=_NHWC,
    )
    return gradient_x, gradient_kernel.transpose(1, 2, 0, 3)


_convolve.defvjp(_forward, _backward)
