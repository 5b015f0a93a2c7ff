"""A ReLU that XLA:CPU computes only once."""

import jax


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
