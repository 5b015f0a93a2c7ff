"""What ends a run before its end; commands print it as one line."""


class UserError(Exception):
    """Something that a person can mend: what was wrong, what is allowed, what to do."""

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))


class Preempted(Exception):  # noqa: N818, it is no error
    """A signal asked the run to stop; it has saved, and the same command goes on with it."""
