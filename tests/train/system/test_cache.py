"""Compiled programs outlive the process that compiled them."""

import os
import subprocess
import sys

from train.runtime import cache

_COMPILE = """
import jax, sys
from train.runtime import cache
jax.config.update("jax_raise_persistent_cache_errors", True)
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
cache.enable_compilation_cache()
print(jax.jit(lambda x: x * 3)(7))
print(events.count("/jax/compilation_cache/cache_misses"))
"""


def compile_in_a_new_process(home):
    environment = os.environ | {"XDG_CACHE_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", _COMPILE],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    result, misses = map(int, done.stdout.split())
    assert result == 21
    return misses


def test_a_second_process_compiles_nothing(tmp_path):
    assert compile_in_a_new_process(tmp_path) > 0
    assert list((tmp_path / "optax_gc" / "compiled").iterdir())
    assert compile_in_a_new_process(tmp_path) == 0


def test_the_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "optax_gc"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / ".cache" / "optax_gc"


def test_jaxs_own_setting_wins(tmp_path):
    code = (
        "import jax; from train.runtime import cache; cache.enable_compilation_cache(); "
        "print(jax.config.jax_compilation_cache_dir)"
    )
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(tmp_path)
