"""Where a result comes from: machine, versions and commit."""

import functools
import platform
import subprocess
from pathlib import Path

import jax

_REPOSITORY = Path(__file__).parents[2]


@functools.cache
def describe() -> dict[str, str | None]:
    """Return the fields of a line of `results.jsonl` about its machine and its code.

    `commit` is None outside of a git repository, and ends with "+" if tracked files were changed.
    """
    return {
        "jax": jax.__version__,
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "processor": _processor(),
        "commit": _commit(),
    }


def _processor() -> str:
    """Return the model of the CPU, with the numbers that tell generations of one name apart."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    first = dict(_field(line) for line in text.partition("\n\n")[0].splitlines())
    if "model name" not in first:  # as on ARM
        return platform.machine()
    return f"{first['model name']} (family {first['cpu family']}, model {first['model']})"


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def _commit() -> str | None:
    command = ["git", "-C", str(_REPOSITORY), "describe", "--always", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(
            [*command, "--abbrev=40"], check=True, capture_output=True, encoding="utf-8"
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
