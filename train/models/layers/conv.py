"""A convolution whose gradients XLA:CPU compiles well wherever they stand."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

_NHWC = ("NHWC", "HWIO", "NHWC")
_LECUN_NORMAL = nnx.initializers.lecun_normal()
Strides = tuple[int, ...]
Padding = tuple[tuple[int, int], ...]


class Conv(nnx.Module):
    """A convolution padded by half a window: (batch, h, w, features) in, width out.

    Args:
      features: of the input.
      width: features of the output.
      window: height and width of the kernel.
      stride: along both.
      groups: into which the features of input and output are divided; each sees its own alone.
      use_bias: whether to add one number per feature of the output.
      kernel_init: from a key, a shape (h, w, features / groups, width) and a dtype.
      dtype: of the computation; parameters are float32.
      rngs: for the initial parameters.
    """

    def __init__(
        self,
        features: int,
        width: int,
        window: tuple[int, int],
        stride: int = 1,
        *,
        groups: int = 1,
        use_bias: bool = False,
        kernel_init: nnx.Initializer = _LECUN_NORMAL,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        shape = (*window, features // groups, width)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(width)) if use_bias else None
        self.strides, self.groups, self.dtype = (stride, stride), groups, dtype
        self.padding = tuple((size // 2, size // 2) for size in window)

    def weight(self) -> jax.Array:
        """What the input is convolved with, in float32: here the kernel as it is."""
        return self.kernel[...]

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.weight().astype(self.dtype)
        y = _convolve(x.astype(self.dtype), kernel, self.strides, self.padding, self.groups)
        return y if self.bias is None else y + self.bias[...].astype(self.dtype)[None, None, None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve(
    x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding, groups: int
) -> jax.Array:
    def at_once(x: jax.Array, kernel: jax.Array, groups: int = groups) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=_NHWC, feature_group_count=groups
        )

    if groups == 1:
        return at_once(x, kernel)
    one_by_one = _group_by_group(functools.partial(at_once, groups=1), groups)
    return jax.lax.platform_dependent(x, kernel, cpu=one_by_one, default=at_once)


def _forward(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding, groups: int):
    return _convolve(x, kernel, strides, padding, groups), (x, kernel)


def _backward(strides: Strides, padding: Padding, groups: int, saved: Any, gradient: jax.Array):
    of_a_group = functools.partial(_gradients_as_plain_convolutions, strides, padding)
    return jax.lax.platform_dependent(
        *saved,
        gradient,
        cpu=_group_by_group(of_a_group, groups),
        default=functools.partial(_gradients, strides, padding, groups),
    )


def _group_by_group(function: Callable[..., Any], groups: int) -> Callable[..., Any]:
    """Calls a function with each group's part of its operands, which lie along the last axis.

    XLA:CPU has no fast code for a convolution in groups: this takes a sixtieth of the time.
    """

    def of_all(*operands: jax.Array) -> Any:
        if groups == 1:
            return function(*operands)
        parts = zip(*(jnp.split(each, groups, -1) for each in operands), strict=True)
        return jax.tree.map(
            lambda *results: jnp.concatenate(results, -1), *(function(*part) for part in parts)
        )

    return of_all


def _gradients(
    strides: Strides,
    padding: Padding,
    groups: int,
    x: jax.Array,
    kernel: jax.Array,
    g: jax.Array,
):
    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=_NHWC, feature_group_count=groups
        )

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
