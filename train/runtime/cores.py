"""The cores of a CPU as devices of JAX."""

import os

import jax


def use_cores(count: int) -> None:
    """Let the CPU be `count` devices, or one for each core if 0; other devices do not change.

    Call it before any JAX function that needs a device. JAX_NUM_CPU_DEVICES overrides it.
    """
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        jax.config.update("jax_num_cpu_devices", count or cores)
