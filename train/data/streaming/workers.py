"""The processes that decode: which signals they hear, and when they end."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker

_SIGNALS = {signal.SIGINT, signal.SIGTERM}


def begin(index: int, count: int) -> None:
    """Called in each of `count` processes when it begins."""
    del index, count
    threading.Thread(target=_end_with_parent, daemon=True).start()


@contextlib.contextmanager
def block_signals() -> Iterator[None]:
    """Threads started inside, and the processes that they start, get no SIGINT and no SIGTERM.

    A terminal's Ctrl-C and a scheduler's SIGTERM go to every process of a group. It is for the
    training process to finish its step, which takes one more batch, and to end the others.
    """
    # It is started with the first process otherwise, and lets its starter hear signals again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """A killed process cannot end its children, so that each has to watch."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
