"""Signals that ask a run to stop: the step in flight is finished and saved first."""

import contextlib
import os
import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_HEARD = b"stopping once what is running is done and saved; a second time stops at once, unsaved\n"


class Preemption:
    """A context manager that turns the first SIGTERM or SIGINT into a request to stop.

    A second signal of the kind ends the process at once. With several processes, JAX's own service
    carries a SIGTERM to all of them and finds the step after which all stop.
    """

    def __init__(self) -> None:
        self._requested = False
        self._asked = 0
        self._several = jax.process_count() > 1
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Preemption":
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT,) if self._several else _SIGNALS:
                self._before[signum] = signal.signal(signum, self._on_signal)
        return self

    def __exit__(self, *_) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]

    def requested(self) -> bool:
        """Whether to stop now; to be asked after every dispatch, equally often in all processes."""
        if self._several:
            self._asked += 1  # JAX's service compares numbers that have no gaps
            return multihost_utils.reached_preemption_sync_point(self._asked)
        return self._requested

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        del frame
        signal.signal(signum, signal.SIG_DFL)
        if self._several:
            os.kill(os.getpid(), signal.SIGTERM)
        self._requested = True
        with contextlib.suppress(OSError):  # of a stdout that is closed
            os.write(1, _HEARD)  # print() could be what the signal has interrupted
