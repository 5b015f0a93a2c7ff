"""`record.json`, a checkpoint's account of itself: any byte that changed since is found by it."""

import hashlib
import json
from pathlib import Path
from typing import Any

_NAME = "record.json"


class DamagedError(Exception):
    """A checkpoint does not hold what was saved."""


def write(folder: Path, record: dict[str, Any]) -> None:
    """Writes `record` beside the digests of all files in the folders of `folder`."""
    sealed = record | {"files": _digests(folder)}
    (folder / _NAME).write_text(json.dumps(sealed | {"seal": _seal(sealed)}, indent=2) + "\n")


def is_in(folder: Path) -> bool:
    """Whether there is a record, of whatever worth."""
    return (folder / _NAME).is_file()


def read(folder: Path) -> dict[str, Any]:
    """The record, once every file has been found to be as it was written.

    Raises:
      DamagedError: a file was changed, added or removed.
    """
    try:
        record = json.loads((folder / _NAME).read_bytes())
        seal, written = record.pop("seal"), record["files"]
    except Exception as error:  # whatever reading damaged bytes can raise
        raise DamagedError(f"{_NAME}: {type(error).__name__}") from error
    if seal != _seal(record):
        raise DamagedError(f"{_NAME} has changed")
    try:
        found = _digests(folder)
    except OSError as error:
        raise DamagedError(f"{error.filename}: {error.strerror}") from error
    for name in sorted(written.keys() | found.keys()):
        if name not in found:
            raise DamagedError(f"{name} is missing")
        if name not in written:
            raise DamagedError(f"{name} does not belong to it")
        if written[name] != found[name]:
            raise DamagedError(f"{name} has changed")
    return record


def _digests(folder: Path) -> dict[str, str]:
    """Of all but the files directly in `folder`, where Orbax writes notes that nothing rests on."""
    digests = {}
    for file in sorted(folder.glob("*/**/*")):
        if not file.is_dir():
            with file.open("rb") as stream:
                name = file.relative_to(folder).as_posix()
                digests[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


def _seal(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
