"""The JSON report of a benchmark, with the machine and the versions that it ran on."""

import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
from pathlib import Path
from typing import Any

import jax

import optax_gc

_PACKAGES = ("jax", "jaxlib", "optax", "flax", "orbax-checkpoint", "numpy", "torch")


def describe_machine() -> dict[str, Any]:
    """Return the date, the devices, the cores and the versions of packages."""
    device = jax.devices()[0]
    cores = os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()
    versions = {"python": platform.python_version(), "optax_gc": optax_gc.__version__}
    for name in _PACKAGES:
        if importlib.util.find_spec(name.replace("-", ".")):
            versions[name] = importlib.metadata.version(name)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "platform": device.platform,
        "chip": _cpu_model() if device.platform == "cpu" else device.device_kind,
        "devices": jax.device_count(),
        "cores": cores,
        "versions": versions,
    }


def write_report(file: Path, report: dict[str, Any]) -> None:
    """Write a report as JSON; create the folder if it does not exist."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _cpu_model() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
