"""Strictness for every test: eight devices, no silent broadcasting between ranks."""

import os
import tempfile

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

if "PYTEST_XDIST_WORKER" not in os.environ:
    # A cache for all processes that the tests start, and not the user's; workers inherit it.
    _cache = tempfile.TemporaryDirectory(prefix="optax_gc-")
    os.environ["XDG_CACHE_HOME"] = _cache.name
