"""The rectifier, computed once."""

import jax


def relu(x: jax.Array) -> jax.Array:
    """max(x, 0), which a CPU keeps in memory for all that uses it.

    XLA:CPU would fuse it into each of its users, and with it the residual blocks before it, as far
    back as they are elementwise: the gradient of a kernel then computes all of that again, while
    it transposes. GPUs and TPUs decide better, and are left to.
    """
    return _materialize(jax.nn.relu(x))


@jax.custom_vjp
def _materialize(x: jax.Array) -> jax.Array:
    return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=_as_it_is)


def _as_it_is(x: jax.Array) -> jax.Array:
    return x


_materialize.defvjp(lambda x: (_materialize(x), None), lambda _, gradient: (gradient,))
