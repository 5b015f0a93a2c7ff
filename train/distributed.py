"""Several processes as one run: GPUs of several machines, a TPU pod."""

import jax
from jax.experimental import multihost_utils

from train.command_line import Cluster
from train.errors import UserError


def join(cluster: Cluster) -> None:
    """Connects this process to the others; to be called before anything asks for a device.

    Raises:
      UserError: there is no cluster to be found.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(*cluster)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"--distributed found no cluster ({error}); name it with --coordinator=HOST:PORT "
            "--num_processes=N --process_id=I"
        ) from error


def is_first() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Returns when every process has come to this line."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
