"""Float64 in a part of a test, on every supported JAX: `jax.enable_x64` is new in JAX 0.8."""

import contextlib

import jax


@contextlib.contextmanager
def enable_x64():
    """Return a context in which JAX has 64-bit types."""
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", False)
