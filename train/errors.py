"""Exceptions that end a run early, which commands print as one line, and texts for them."""

import contextlib
import os
import sys
from typing import Any


class UserError(Exception):
    """An error that the user can fix: what was wrong, what is allowed, what to do."""

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))


class Preempted(Exception):  # noqa: N818, not an error
    """A signal stopped the run; its state is saved, and the same command resumes it."""


def print_error(text: str) -> None:
    """Print an error as one line on stderr.

    It is written to the file descriptor, where `train.runtime.stderr_filter` sees it.
    """
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError):  # stderr can be closed
        os.write(2, f"error: {' '.join(text.split())}\n".encode(encoding, "replace"))


def describe_error(error: BaseException) -> str:
    """Return the type and the message of another library's exception, for a one-line message."""
    return truncate(f"{type(error).__name__}: {error}")


def short_repr(value: Any) -> str:
    """Return `repr(value)`, truncated."""
    try:
        return truncate(repr(value), 100)
    except ValueError:  # Python does not print integers with thousands of digits
        return f"<{type(value).__name__} of too many digits>"


def truncate(text: str, length: int = 300) -> str:
    """Return a text on one line, without its middle if long: the cause often comes last."""
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length // 3]} ... {text[-length // 2 :]}"
