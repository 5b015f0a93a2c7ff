"""Runs of several processes, such as on GPUs of several machines or on a TPU pod."""

import contextlib
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from train.errors import UserError, describe_error, short_repr
from train.runtime import stderr_filter
from train.runtime.watchdog import Watchdog, end_process, exit_on_abort

TIMEOUT = 1800
"""The default of `--timeout`, in seconds."""
_START_SECONDS = 300  # the most that a process waits for the others to start
_HEARTBEAT_SECONDS = 60  # after which a process without heartbeat counts as dead
_SHUTDOWN_SECONDS = 60  # the most that a process waits for the others to end

_STATUS = re.compile(r"(ABORTED|CANCELLED|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE|UNKNOWN): ")

watchdog: Watchdog | None = None
"""The watchdog of this process; None if the run has no other processes."""


def initialize(
    coordinator: str | None, num_processes: int | None, process_id: int | None, timeout: int | None
) -> None:
    """Connect this process to the others; call it before any JAX function that needs a device.

    From then on, the process ends if another one is lost: see `train.runtime.watchdog` and
    `train.runtime.stderr_filter`.

    Args:
      coordinator: HOST:PORT of process 0; None if JAX detects the cluster.
      num_processes: The number of processes; None if JAX detects it.
      process_id: The number of this process, from 0; None if JAX detects it.
      timeout: The most seconds without progress; None for the default.

    Raises:
      UserError: If there is no such cluster.
    """
    global watchdog
    timeout = timeout or TIMEOUT
    _filter_stderr()
    exit_on_abort()
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=min(timeout, _START_SECONDS),
            heartbeat_timeout_seconds=min(timeout, _HEARTBEAT_SECONDS),
            shutdown_timeout_seconds=min(timeout, _SHUTDOWN_SECONDS),
        )
    except Exception as error:  # a part of a cluster's variables raises many types
        raise UserError(
            f"--distributed found no cluster ({describe_error(error)}); specify it with "
            "--coordinator=HOST:PORT --num_processes=N --process_id=I"
        ) from error
    watchdog = Watchdog(timeout)


def _filter_stderr() -> None:
    """Send stderr, except Python's, through `train.runtime.stderr_filter`."""
    encoding = sys.stderr.encoding
    sys.stderr = open(os.dup(2), "w", 1, encoding, "replace")  # noqa: SIM115, open to the end
    read_end, write_end = os.pipe()
    command = [sys.executable, "-S", stderr_filter.__file__]
    subprocess.Popen(command, stdin=read_end, stdout=subprocess.DEVNULL)
    os.dup2(write_end, 2)
    os.close(read_end)
    os.close(write_end)


def progress() -> None:
    """Tell the watchdog that this process does not wait for another one."""
    if watchdog:
        watchdog.progress()


@contextlib.contextmanager
def end_if_process_is_lost() -> Iterator[None]:
    """End this process if JAX fails in the block because another process is lost.

    It ends at once: the code around the block, such as a save, could wait for the lost process.
    """
    try:
        yield
    except Exception as error:
        if not is_lost_process(error):
            raise
        end_process(
            f"JAX failed, probably because another process of the run has ended "
            f"({describe_error(error)}); see its output, then run the same command in all "
            "processes to resume"
        )


def shutdown() -> None:
    """Disconnect from the other processes, after all have come here."""
    if jax.distributed.is_initialized():
        barrier("the run is finished")
        jax.distributed.shutdown()


def is_lost_process(error: Exception) -> bool:
    """Return whether an error of JAX or of Orbax probably means that another process is lost."""
    if not jax.distributed.is_initialized():
        return False
    # JAX raises a failed collective as JaxRuntimeError or as ValueError; Orbax wraps them.
    cause: BaseException | None = error
    while cause and not _STATUS.match(str(cause)):
        cause = cause.__cause__
    return cause is not None


def is_first_process() -> bool:
    """Return whether this is process 0, which writes the output."""
    # Without other processes, this does not wait for the devices.
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def announce(phase: str) -> None:
    """Print what process 0 does next and may take a while at, such as "compiling"."""
    progress()
    if is_first_process():
        print(f"{phase} ...", flush=True)


def check_equal(name: str, value: str) -> None:
    """Check that a value is the same in all processes.

    Raises:
      UserError: In every process, if it is not.
    """
    if jax.process_count() == 1:
        return
    progress()
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
    progress()
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
        progress()
        multihost_utils.sync_global_devices(name)
