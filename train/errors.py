"""What ends a run before its end; commands print it as one line."""

from typing import Any


class UserError(Exception):
    """Something that a user can fix: what was wrong, what is allowed, what to do."""

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))


class Preempted(Exception):  # noqa: N818, it is no error
    """A signal asked the run to stop; it has saved, and the same command goes on with it."""


def describe_error(error: BaseException) -> str:
    """What another library's exception says, as a part of our one line."""
    return truncate(f"{type(error).__name__}: {error}")


def short_repr(value: Any) -> str:
    """`repr(value)`, cut to what a person reads."""
    try:
        return truncate(repr(value), 100)
    except ValueError:  # Python writes no integers of thousands of digits
        return f"<{type(value).__name__} of too many digits>"


def truncate(text: str, length: int = 300) -> str:
    """A text on one line; a long one without its middle, for a cause often comes last."""
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length // 3]} ... {text[-length // 2 :]}"
