"""Paths from a command line, a config or the environment."""

import re
from pathlib import Path

from train.errors import UserError, short_repr

# Without a dot, which schemes hardly have: "my.py:/x" is a config file and its argument.
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+-]*://?")


def local_path(name: str, text: str) -> Path:
    """Return a path with `~` and `~USER` expanded.

    Args:
      name: Where the path comes from, such as "--workdir" or "config.data.dir".
      text: The path.

    Raises:
      UserError: If it is a URL, or the home folder is not known.
    """
    if url := _URL.match(text):
        raise UserError(
            f"{name}={short_repr(text)} is a URL, but must be a path on a local or mounted file "
            f"system: {url[0]} has no locks and no renames; mount it, or copy the files"
        )
    path = Path(text)
    try:
        return path.expanduser() if text.startswith("~") else path  # not "./~"
    except RuntimeError:
        user = path.parts[0]
        raise UserError(
            f"{name}={short_repr(text)}: the home folder of {user} is not known; write the full path"
        ) from None
