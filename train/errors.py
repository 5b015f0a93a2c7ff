"""The one exception that a person can mend; commands print it as one line and exit with 2."""


class UserError(Exception):
    """What was wrong, what is allowed, what to do: one line."""

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))
