"""Signals that ask a run to stop after it has finished and saved its current steps."""

import contextlib
import os
import signal
import threading
from types import FrameType

from jax.experimental import multihost_utils

from train.runtime import distributed
from train.runtime.watchdog import MESSAGE, SIGNALS


class Preemption:
    """A context manager that turns the first SIGTERM or SIGINT into a request to stop.

    A second signal of the same kind ends the process at once. With several processes, the watchdog
    receives the signals, because the main thread may be waiting for another process. JAX's
    preemption service then finds the step after which all processes stop.
    """

    def __init__(self) -> None:
        self._requested = False
        self._num_polls = 0
        self._is_distributed = distributed.watchdog is not None
        self._old_handlers: dict[int, object] = {}

    def __enter__(self) -> "Preemption":
        # Only the main thread may install handlers.
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                self._old_handlers[signum] = signal.signal(signum, self._on_signal)
        return self

    def __exit__(self, *_) -> None:
        for signum, handler in self._old_handlers.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]

    def requested(self) -> bool:
        """Return whether to stop now; call it equally often in every process."""
        if self._is_distributed:
            distributed.progress()
            self._num_polls += 1  # JAX's service compares step numbers, which must have no gaps
            return multihost_utils.reached_preemption_sync_point(self._num_polls)
        return self._requested

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        del frame
        if self._is_distributed:
            return
        signal.signal(signum, signal.SIG_DFL)
        self._requested = True
        with contextlib.suppress(OSError):  # stdout can be closed
            os.write(1, MESSAGE)  # not print(), which the signal may have interrupted
