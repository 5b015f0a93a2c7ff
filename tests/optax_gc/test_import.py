"""`import optax_gc` costs nothing that `import optax` has not paid."""

import subprocess
import sys

import pytest

_MODULES = """
import sys, jax, optax
before = set(sys.modules)
import optax_gc
print(*sorted(set(sys.modules) - before))
"""

_SECONDS = """
import time, jax, optax
start = time.perf_counter()
import optax_gc
print(time.perf_counter() - start)
"""


def _python(code):
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.split()


def test_it_imports_jax_and_optax_only():
    added = {module.split(".")[0] for module in _python(_MODULES)}
    ours = added - sys.stdlib_module_names
    assert ours == {"optax_gc"}


def test_it_adds_less_than_50_milliseconds():
    best = 1.0
    for _ in range(5):  # the minimum, for the machine may be busy
        best = min(best, float(_python(_SECONDS)[0]))
        if best < 0.05:
            return
    pytest.fail(f"import optax_gc takes {1e3 * best:.0f} ms after import optax")
