"""What a measurement was made on."""

import datetime
import importlib.metadata
import importlib.util
import os
import platform
from typing import Any

import jax

import optax_gc

_PACKAGES = ("jax", "jaxlib", "optax", "flax", "orbax-checkpoint", "numpy", "torch")


def machine() -> dict[str, Any]:
    """Date, chip, cores and versions, for the JSON of a benchmark."""
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


def _cpu_model() -> str:
    with open("/proc/cpuinfo") as lines:
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
