"""Runs of several processes, such as on GPUs of several machines or on a TPU pod."""

import hashlib
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from train.errors import UserError, describe_error, short_repr


def initialize(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Connect this process to the others; call it before any JAX function that needs a device.

    Args:
      coordinator: HOST:PORT of process 0; None if JAX detects the cluster.
      num_processes: The number of processes; None if JAX detects it.
      process_id: The number of this process, from 0; None if JAX detects it.

    Raises:
      UserError: If there is no such cluster.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except Exception as error:  # a part of a cluster's variables raises many types
        raise UserError(
            f"--distributed found no cluster ({describe_error(error)}); specify it with "
            "--coordinator=HOST:PORT --num_processes=N --process_id=I"
        ) from error


def is_first_process() -> bool:
    """Return whether this is process 0, which writes the output."""
    # Without other processes, this does not wait for the devices.
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def announce(phase: str) -> None:
    """Print what process 0 does next and may take a while at, such as "compiling"."""
    if is_first_process():
        print(f"{phase} ...", flush=True)


def check_equal(name: str, value: str) -> None:
    """Check that a value is the same in all processes.

    Raises:
      UserError: In every process, if it is not.
    """
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(value.encode()).digest(), np.uint8)
    digests = multihost_utils.process_allgather(digest)
    differing = [index for index, other in enumerate(digests) if (other != digests[0]).any()]
    if differing:
        raise UserError(
            f"{name} differs between the processes of the run: process {differing[0]} and process "
            f"0 do not agree, and it is {short_repr(value)} in process {jax.process_index()}; "
            "start all processes with the same"
        )


def on_first_process(action: Callable[[], None]) -> None:
    """Run `action` in process 0; the other processes wait until it is done.

    Raises:
      UserError: In every process, if `action` raises it.
    """
    error = None
    if is_first_process():
        try:
            action()
        except UserError as raised:
            error = raised
    if jax.process_count() > 1 and multihost_utils.broadcast_one_to_all(
        np.array(error is not None)
    ):
        error = error or UserError("process 0 stopped with an error; see its output")
    if error:
        raise error


def barrier(name: str) -> None:
    """Wait until every process has reached the barrier of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
