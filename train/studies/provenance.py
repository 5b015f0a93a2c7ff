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
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    return processor_name(cpuinfo) or platform.machine()


def processor_name(cpuinfo: str) -> str:
    """Return the name of the first CPU in `/proc/cpuinfo`; empty if it has none, as on 64-bit ARM.

    Family and model follow the name, because one name can stand for several generations.
    """
    lines = (line.partition(":") for line in cpuinfo.partition("\n\n")[0].splitlines())
    fields = {key.strip(): value.strip() for key, _, value in lines}
    numbers = [
        f"{label} {fields[key]}"
        for label, key in (("family", "cpu family"), ("model", "model"))
        if key in fields
    ]
    name = fields.get("model name", "")
    return f"{name} ({', '.join(numbers)})" if name and numbers else name


def _commit() -> str | None:
    command = ["git", "-C", str(_REPOSITORY), "describe", "--always", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(
            [*command, "--abbrev=40"], check=True, capture_output=True, encoding="utf-8"
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
