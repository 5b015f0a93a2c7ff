"""Settings of all tests: eight CPU devices, strict rank promotion, caches of compiled programs."""

import os
import tempfile
from pathlib import Path

import jax
import pytest

WORKER = os.environ.get("PYTEST_XDIST_WORKER")

if WORKER is None:  # workers inherit the environment
    # Compiling takes longer than running, so LLVM optimizes as little as possible.
    _flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_flags}"
    # Processes that the tests start share one cache, which is not the user's.
    _cache = tempfile.TemporaryDirectory(prefix="optax_gc-")
    os.environ["XDG_CACHE_HOME"] = _cache.name

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Each worker has its own cache: JAX can read an entry that another process has half written.
_folder = Path(os.environ["XDG_CACHE_HOME"], WORKER or "main")
jax.config.update("jax_compilation_cache_dir", str(_folder))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(autouse=True, scope="module")
def release_programs():
    """Release the programs of a file: Linux limits the memory mappings of a process, and each
    compiled program has several. LLVM aborts the process when there are too many.
    """
    yield
    jax.clear_caches()


def pytest_collection_modifyitems(items):
    """Run files with slow tests first, and the last folders first, which have the longest files.

    A worker runs whole files. If a long file came last, the other worker would be idle meanwhile.
    """
    files = list(dict.fromkeys(item.path for item in items))
    slow_files = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow_files, -files.index(item.path)))
