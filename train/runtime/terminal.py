"""Where output is shown: bars on a terminal that a person watches, plain lines elsewhere."""

import os
import sys

from rich.console import Console


def make_console(soft_wrap: bool = True, width: int | None = None) -> Console:
    """Return a console for stdout; `is_terminal` says whether it may show bars.

    Args:
      soft_wrap: Whether the terminal wraps long lines; otherwise rich does.
      width: The number of columns where there are only plain lines; None for rich's default.
    """
    watched = is_watched()
    return Console(
        highlight=False,
        soft_wrap=soft_wrap,
        width=None if watched else width,
        # Rich would also write control codes into a file if FORCE_COLOR is set.
        force_terminal=watched,
    )


def is_watched() -> bool:
    """Return whether stdout is a terminal that a person watches and that can move its cursor.

    `srun -u` and `docker run -t` connect stdout to a terminal of their own and write what they read
    from it to a log. They give no terminal to stdin.
    """
    can_move_cursor = os.environ.get("TERM", "") not in ("", "dumb", "unknown")
    return can_move_cursor and all(
        stream is not None and not stream.closed and stream.isatty()
        for stream in (sys.stdin, sys.stdout)
    )
