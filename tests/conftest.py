"""Strictness for every test: eight devices, no silent broadcasting between ranks."""

import os
import tempfile

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

if "PYTEST_XDIST_WORKER" not in os.environ:  # workers inherit what is set here
    # The programs are tested, not how fast LLVM can make them, which takes most of the time.
    _flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_flags}"
    # A cache for all processes that the tests start, and not the user's.
    _cache = tempfile.TemporaryDirectory(prefix="optax_gc-")
    os.environ["XDG_CACHE_HOME"] = _cache.name
