"""What is kept between runs, in the user's cache folder: compiled programs."""

import os
from pathlib import Path

import jax


def folder() -> Path:
    """`optax_gc` in the user's cache folder (`XDG_CACHE_HOME`, else `~/.cache`)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "optax_gc"


def enable_compilation_cache() -> None:
    """Turns JAX's persistent compilation cache on; JAX_COMPILATION_CACHE_DIR says if elsewhere."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(folder() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
