"""A convolution and a ReLU that XLA:CPU compiles to fast code, also inside loops."""

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
    """A convolution padded by half the kernel size on each side.

    It maps (batch, height, width, features) to (batch, new height, new width, width).

    Args:
      features: The features of the input.
      width: The features of the output.
      kernel_size: The height and width of the kernel.
      stride: The stride along both axes.
      groups: The number of groups into which the features of the input and the output are divided;
        each group of outputs depends on one group of inputs.
      use_bias: Whether to add a bias per output feature.
      kernel_init: Called with a key, the shape (height, width, features / groups, width) and a
        dtype.
      dtype: The dtype of the computation; parameters are float32.
      rngs: For the initial parameters.
    """

    def __init__(
        self,
        features: int,
        width: int,
        kernel_size: tuple[int, int],
        stride: int = 1,
        *,
        groups: int = 1,
        use_bias: bool = False,
        kernel_init: nnx.Initializer = _LECUN_NORMAL,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        shape = (*kernel_size, features // groups, width)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(width)) if use_bias else None
        self.strides, self.groups, self.dtype = (stride, stride), groups, dtype
        self.padding = tuple((size // 2, size // 2) for size in kernel_size)

    def weight(self) -> jax.Array:
        """Return the float32 weights to convolve with; subclasses compute them from the kernel."""
        return self.kernel[...]

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.weight().astype(self.dtype)
        y = _convolve(x.astype(self.dtype), kernel, self.strides, self.padding, self.groups)
        return y if self.bias is None else y + self.bias[...].astype(self.dtype)[None, None, None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve(
    x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding, groups: int
) -> jax.Array:
    grouped = functools.partial(_lax_convolve, strides, padding, groups)
    if groups == 1:
        return grouped(x, kernel)
    separate = _group_by_group(functools.partial(_lax_convolve, strides, padding, 1), groups)
    return jax.lax.platform_dependent(x, kernel, cpu=separate, default=grouped)


def _lax_convolve(
    strides: Strides, padding: Padding, groups: int, x: jax.Array, kernel: jax.Array
) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=_NHWC, feature_group_count=groups
    )


def _forward(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding, groups: int):
    return _convolve(x, kernel, strides, padding, groups), (x, kernel)


def _backward(strides: Strides, padding: Padding, groups: int, saved: Any, gradient: jax.Array):
    group_gradients = functools.partial(_gradients_as_plain_convolutions, strides, padding)
    return jax.lax.platform_dependent(
        *saved,
        gradient,
        cpu=_group_by_group(group_gradients, groups),
        default=functools.partial(_gradients, strides, padding, groups),
    )


def _group_by_group(function: Callable[..., Any], groups: int) -> Callable[..., Any]:
    """Return a function that calls `function` with each group of its operands' last axis.

    XLA:CPU has no fast code for grouped convolutions; separate ones are 60 times faster.
    """

    def call_groups(*operands: jax.Array) -> Any:
        if groups == 1:
            return function(*operands)
        parts = zip(*(jnp.split(operand, groups, -1) for operand in operands), strict=True)
        return jax.tree.map(
            lambda *results: jnp.concatenate(results, -1), *(function(*part) for part in parts)
        )

    return call_groups


def _gradients(
    strides: Strides,
    padding: Padding,
    groups: int,
    x: jax.Array,
    kernel: jax.Array,
    g: jax.Array,
):
    convolve = functools.partial(_lax_convolve, strides, padding, groups)
    return jax.vjp(convolve, x, kernel)[1](g)


def _gradients_as_plain_convolutions(
    strides: Strides, padding: Padding, x: jax.Array, kernel: jax.Array, g: jax.Array
):
    """Return the gradients of an ungrouped convolution from operands transposed to NHWC and HWIO.

    JAX leaves the transposition to the compiler, and XLA:CPU does it only outside of loops. Inside
    a loop it would use code for general layouts, which is 50 times slower.
    """
    before_x, after_x, after_kernel = [], [], []
    for axis, (stride, (before, _)) in enumerate(zip(strides, padding, strict=True)):
        size, kernel_size = x.shape[axis + 1], kernel.shape[axis]
        span = (g.shape[axis + 1] - 1) * stride + 1
        before_x.append(kernel_size - 1 - before)
        after_x.append(size + kernel_size - 1 - span - before_x[-1])
        after_kernel.append(kernel_size - 1 + span - size - before)
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


def relu(x: jax.Array) -> jax.Array:
    """Return max(x, 0), which is stored in memory on CPUs instead of fused into each of its users.

    XLA:CPU would fuse the ReLU into every operation that reads it, together with the elementwise
    operations before it, across residual blocks. The gradient of a kernel would then compute all
    of them again while it transposes its operand. XLA fuses better for GPUs and TPUs, so the
    program for those is not changed.
    """
    return _materialize(jax.nn.relu(x))


@jax.custom_vjp
def _materialize(x: jax.Array) -> jax.Array:
    return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=_identity)


def _identity(x: jax.Array) -> jax.Array:
    return x


_materialize.defvjp(lambda x: (_materialize(x), None), lambda _, gradient: (gradient,))
