"""Several processes as one run: GPUs of several machines, a TPU pod."""

from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from train.errors import UserError


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Connects this process to the others; to be called before anything asks for a device.

    Raises:
      UserError: there is no cluster to be found.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"--distributed found no cluster ({error}); name it with --coordinator=HOST:PORT "
            "--num_processes=N --process_id=I"
        ) from error


def is_first_process() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def on_first_process(action: Callable[[], None]) -> None:
    """The first process does it, and the others wait until it is done.

    Raises:
      UserError: in every process, if the first one's action raises it.
    """
    error = None
    if is_first_process():
        try:
            action()
        except UserError as its_own:
            error = its_own
    if jax.process_count() > 1 and multihost_utils.broadcast_one_to_all(
        np.array(error is not None)
    ):
        error = error or UserError("process 0 has stopped; see what it says")
    if error:
        raise error


def barrier(name: str) -> None:
    """Returns when every process has come to this line."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
