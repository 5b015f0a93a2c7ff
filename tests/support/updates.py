"""Random updates, their centralization, and accurate NumPy copies."""

import jax.numpy as jnp
import numpy as np

import optax_gc
from optax_gc import FanIn


def normal(*shape, dtype=np.float32, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def centralize(updates, axes=None, **kwargs):
    """Return the centralized updates."""
    tx = optax_gc.centralize(axes, **kwargs)
    return tx.update(updates, tx.init(updates))[0]


def project(gradient, axes):
    """Return one gradient, centralized over `axes`."""
    return centralize(gradient, FanIn(tuple(axes)))


def wide(array):
    """Return a float64 or complex128 NumPy array, so that sums are accurate."""
    array = np.asarray(array)
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
