"""Paths from a command line, a config or the environment."""

import errno
import os
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
      UserError: If it is a URL, the home folder is not known, or the name is not UTF-8, which
        JAX's libraries need.
    """
    if not _is_utf8(text):
        raise UserError(f"{name}={short_repr(text)} has bytes that are not UTF-8; rename it")
    if url := _URL.match(text):
        raise UserError(
            f"{name}={short_repr(text)} is a URL, but must be a path on a local or mounted file "
            f"system: {url[0]} has no locks and no renames; mount it, or copy the files"
        )
    path = Path(text)
    try:
        return path.expanduser() if text.startswith("~") else path  # not "./~"
    except RuntimeError:
        raise UserError(
            f"{name}={short_repr(text)}: the home folder of {path.parts[0]} is not known; write "
            "the full path"
        ) from None


def check_folder(name: str, folder: Path) -> None:
    """Check that a folder exists or that nothing is in its place.

    Args:
      name: Where the path comes from.
      folder: The folder.

    Raises:
      UserError: If it is a file, is inside a file, or if a symbolic link on the way leads nowhere.
    """
    for part in (*reversed(folder.parents), folder):
        if os.path.isdir(part) or not os.path.lexists(part):
            continue
        what = "is" if part == folder else f"is inside {part}, which is"
        if os.path.exists(part):
            reason = f"{what} a file"
        else:
            reason = f"{what} a symbolic link to {os.readlink(part)}, which does not exist"
            if _is_loop(part):
                reason = f"{what} a symbolic link that leads back to itself"
        raise UserError(f"{name} {folder} {reason}; give it a folder")


def _is_loop(link: Path) -> bool:
    try:
        os.stat(link)
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of a file name that could not be decoded
        return False
    return True
