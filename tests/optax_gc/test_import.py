"""The cost of `import optax_gc` after `import optax`."""

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
start = time.process_time()
import optax_gc
print(time.process_time() - start)
"""


def _python(code):
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    return process.stdout.split()


def test_imports_only_jax_and_optax():
    added = {module.split(".")[0] for module in _python(_MODULES)}
    assert added - sys.stdlib_module_names == {"optax_gc"}


def test_import_is_fast():
    best = 1.0
    for _ in range(5):  # processor time, which other processes still change a little
        best = min(best, float(_python(_SECONDS)[0]))
        if best < 0.05:
            return
    pytest.fail(f"import optax_gc takes {1e3 * best:.0f} ms after import optax")
