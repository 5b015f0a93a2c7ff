"""Random updates, and one step of `centralize`."""

import jax.numpy as jnp
import numpy as np

import optax_gc


def normal(*shape, dtype=np.float32, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def centralize(updates, axes=None, **kwargs):
    """Return the centralized updates."""
    tx = optax_gc.centralize(axes, **kwargs)
    return tx.update(updates, tx.init(updates))[0]
