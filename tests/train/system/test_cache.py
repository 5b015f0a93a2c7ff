"""Compiled programs are stored in the user's cache folder."""

import os
import subprocess
import sys

import pytest

from train.runtime import cache

_COMPILE = """
import jax
from train.runtime import cache
jax.config.update("jax_raise_persistent_cache_errors", True)
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
cache.enable_compilation_cache()
print(jax.jit(lambda x: x * 3)(7))
print(events.count("/jax/compilation_cache/cache_misses"))
"""
_PRINT_CACHE_DIR = """
import jax
from train.runtime import cache
cache.enable_compilation_cache()
print(jax.config.jax_compilation_cache_dir)
"""


def run_python(code, **environment):
    process = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return process.stdout


def count_cache_misses(home):
    result, misses = map(int, run_python(_COMPILE, XDG_CACHE_HOME=str(home)).split())
    assert result == 21
    return misses


@pytest.mark.slow
def test_second_process_compiles_nothing(tmp_path):
    assert count_cache_misses(tmp_path) > 0
    assert list((tmp_path / "optax_gc" / "compiled").iterdir())
    assert count_cache_misses(tmp_path) == 0


def test_cache_dir_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_dir() == tmp_path / "optax_gc"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_dir() == tmp_path / ".cache" / "optax_gc"


def test_jax_cache_variable_wins(tmp_path):
    cache_dir = run_python(_PRINT_CACHE_DIR, JAX_COMPILATION_CACHE_DIR=str(tmp_path)).strip()
    assert cache_dir == str(tmp_path)
