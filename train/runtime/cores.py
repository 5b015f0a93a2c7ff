"""The cores of a CPU: devices of JAX, and threads of XLA."""

import os

import jax


def use_cores(count: int) -> None:
    """Let the CPU be `count` devices, or one for each core if 0; other devices do not change.

    Call it before any JAX function that needs a device. JAX_NUM_CPU_DEVICES overrides it.
    """
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", count or _num_cores())


def num_threads() -> int:
    """Return the number of threads with which XLA computes on the CPU in this process.

    The last bits of a result on the CPU depend on it, because XLA divides sums between threads.
    """
    return max(int(os.environ.get("NPROC", 0)) or _num_cores(), len(jax.devices("cpu")))


def use_threads(count: int) -> None:
    """Let XLA compute with so many threads on the CPU; call it before JAX needs a device."""
    os.environ["NPROC"] = str(count)


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
