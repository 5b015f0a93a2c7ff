"""The user's cache folder, and JAX's cache of compiled programs in it."""

import os
import tempfile
from pathlib import Path

import jax


def cache_dir() -> Path:
    """Return the folder `optax_gc` in `XDG_CACHE_HOME`, which is `~/.cache` by default.

    A value that is not absolute, such as `~/x` or a URL, is ignored, as the XDG standard demands.
    A user without a home folder, as in some containers, gets one in the folder for temporary files.
    """
    folder = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(folder):
        return Path(folder) / "optax_gc"
    try:
        return Path.home() / ".cache" / "optax_gc"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"optax_gc-{os.getuid()}"


def enable_compilation_cache() -> None:
    """Enable JAX's persistent compilation cache; JAX_COMPILATION_CACHE_DIR overrides its folder."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if folder is not None:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(folder))
    else:
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
