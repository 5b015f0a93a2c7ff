"""Data worker processes: which signals they receive, and when they end."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker

_SIGNALS = {signal.SIGINT, signal.SIGTERM}


def init_worker(index: int, count: int) -> None:
    """Initialize a data worker; Grain calls it in each of the `count` processes."""
    del index, count
    threading.Thread(target=_exit_with_parent, daemon=True).start()


@contextlib.contextmanager
def block_signals() -> Iterator[None]:
    """Block SIGINT and SIGTERM in the threads and processes that are started inside.

    A terminal's Ctrl-C and a scheduler's SIGTERM go to every process of a group. Only the training
    process must handle them: it finishes its step, for which it needs one more batch, and then
    stops the others.
    """
    # The first process would start it otherwise, and it unblocks the signals of its starter.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _exit_with_parent() -> None:
    """Exit when the parent ends; a killed parent cannot stop its children."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
