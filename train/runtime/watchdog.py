"""A limit on the time that a process of a distributed run waits for the others."""

import contextlib
import ctypes
import os
import select
import signal
import threading
import time

from train.errors import UserError, print_error

EXIT_LOST_PROCESS = 6
"""Exit status if another process of the run is lost: the number of SIGABRT."""
SECONDS_AFTER_SIGNAL = 60
"""How long the run may wait after a signal that asks it to stop."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""The signals that ask a run to stop."""
MESSAGE = (
    b"finishing and saving the current steps, then stopping; "
    b"a second signal stops at once without saving\n"
)
"""Is printed after the first of them."""

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int)
_get_handler, _set_handler = ctypes.pythonapi.PyOS_getsig, ctypes.pythonapi.PyOS_setsig
_get_handler.restype = _set_handler.restype = ctypes.c_void_p
_set_handler.argtypes = (ctypes.c_int, ctypes.c_void_p)


class Watchdog:
    """A thread that ends the process if it makes no progress, and that receives its signals.

    The main thread may be inside JAX, where it runs no Python code, so it can do neither.
    """

    def __init__(self, timeout: float):
        """Start; call it in the main thread, after JAX has installed its handler of SIGTERM.

        Until Python handlers of `SIGNALS` are installed, these end the process as usual.

        Args:
          timeout: The seconds without progress after which the process ends.

        Raises:
          UserError: If JAX has not installed it.
        """
        self._timeout = timeout
        self._last_progress = time.monotonic()
        # JAX's preemption service would receive SIGTERM, and nobody would while it is not polled.
        handler = _get_handler(signal.SIGTERM)
        if not handler:
            raise UserError(
                "JAX's preemption service is off, but several processes need it to stop together; "
                "unset JAX_ENABLE_PREEMPTION_SERVICE"
            )
        self._notify_jax = _Handler(handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._signals, write_end = os.pipe()
        os.set_blocking(write_end, False)
        signal.set_wakeup_fd(write_end)
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def progress(self) -> None:
        """Start the time again: the process has not waited until now."""
        self._last_progress = time.monotonic()

    def _watch(self) -> None:
        while True:
            if select.select([self._signals], [], [], 1.0)[0]:
                for signum in os.read(self._signals, 100):
                    self._receive(signum)
            waited = time.monotonic() - self._last_progress
            if waited > self._timeout:
                end_process(
                    f"no progress for {waited:.0f} s, probably because another process of the run "
                    "hangs; see its output, then run the same command in all processes to resume"
                )

    def _receive(self, signum: int) -> None:
        if signum in SIGNALS:
            _set_handler(signum, None)  # a second signal ends the process
            self._notify_jax(signal.SIGTERM)
            self.progress()
            self._timeout = min(self._timeout, SECONDS_AFTER_SIGNAL)
            with contextlib.suppress(OSError):  # stdout can be closed
                os.write(1, MESSAGE)


def exit_on_abort() -> None:
    """Let the process exit with status 6, without a core dump, when JAX aborts it."""
    # The C function gets the number of the signal as its argument: the status.
    exit_function = ctypes.cast(ctypes.CDLL(None)._exit, ctypes.c_void_p)
    _set_handler(signal.SIGABRT, exit_function.value)


def end_process(error: str) -> None:
    """Print one line and end the process at once: an orderly end would wait for the others."""
    print_error(error)
    os._exit(EXIT_LOST_PROCESS)
