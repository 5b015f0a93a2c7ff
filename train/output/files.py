"""Files that survive a kill: atomic writes, locks and JSON Lines."""

import contextlib
import errno
import fcntl
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from train.errors import UserError

Line = dict[str, Any]
"""One object of a JSON Lines file."""
LOCK_FILE = ".lock"
"""The file in a work folder that is locked while a run or a study uses the folder."""

# What flock() reports where a file system, or its lock service, has no locks.
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def lock(path: Path, shared: bool = False) -> int:
    """Lock a file until the returned descriptor is closed; create the file if there is none.

    The file is opened for writing, as an exclusive lock on NFS requires. The lock keeps out other
    processes of this machine. It keeps out those of other machines where the file system shares its
    locks, as NFSv4 does by default. Without any locks, a warning is printed.

    Args:
      path: The file, in an existing folder.
      shared: Whether other processes may hold a shared lock at the same time.

    Raises:
      OSError: If the file cannot be opened.
      UserError: If another process holds the lock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _WITHOUT_LOCKS:
            print(
                f"warning: the file system of {path.parent} has no locks ({error.strerror}); "
                "do not start two runs with the same --workdir",
                file=sys.stderr,
            )
            return descriptor
        os.close(descriptor)
        if not isinstance(error, BlockingIOError):
            raise
        raise UserError(
            f"another run is working in {path.parent}; wait for it, or use another --workdir"
        ) from None
    return descriptor


@contextlib.contextmanager
def explain_write_errors(file: Path) -> Iterator[None]:
    """Turn an `OSError` of the block, which writes `file`, into a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {file}: {error.strerror or error}; free some space or fix the "
            "permissions, then run the same command again"
        ) from error


def write_atomically(file: Path, text: str) -> None:
    """Replace `file` so that a reader finds the old text or the new text, never a part.

    Raises:
      UserError: If the file cannot be written.
    """
    write_bytes_atomically(file, text.encode())


def write_bytes_atomically(file: Path, content: bytes) -> None:
    """Replace `file` as `write_atomically` does."""
    # A name of its own, because the shards of a study write the same files.
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.partial")
    with explain_write_errors(file):
        try:
            with partial.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)


def write_json(file: Path, value: Any) -> None:
    """Write one JSON value atomically."""
    write_atomically(file, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
      UserError: If the file cannot be read or does not contain an object.
    """
    try:
        value = json.loads(file.read_bytes())
    except (ValueError, RecursionError, OSError):
        value = None
    if not isinstance(value, dict):
        raise UserError(f"{file} is damaged; use another --workdir")
    return value


def read_jsonl(file: Path, is_valid: Callable[[Line], bool], fix_hint: str) -> list[Line]:
    """Return the complete lines of a JSON Lines file; an empty list if there is no file.

    A last line without a line end was cut off by a kill and is ignored.

    Args:
      file: The file.
      is_valid: Checks the fields of a line; may raise for a line that is not an object.
      fix_hint: What the user can do about a damaged line.

    Raises:
      UserError: If the file cannot be read, or a line is damaged.
    """
    try:
        *lines, _ = file.read_bytes().split(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(
            f"cannot read {file}: {error.strerror}; fix it, or use another --workdir"
        ) from None
    return [_parse(file, number, line, is_valid, fix_hint) for number, line in enumerate(lines, 1)]


def _parse(
    file: Path, number: int, text: bytes, is_valid: Callable[[Line], bool], fix_hint: str
) -> Line:
    try:
        line = json.loads(text)
        valid = is_valid(line)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        valid = False
    if not valid:
        raise UserError(f"line {number} of {file} is damaged; {fix_hint}")
    return line
