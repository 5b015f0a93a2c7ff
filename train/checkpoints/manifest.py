"""`manifest.json`: the digests of a checkpoint's files, by which damage is found."""

import hashlib
import json
from pathlib import Path
from typing import Any

_NAME = "manifest.json"


class DamagedError(Exception):
    """A checkpoint does not contain what was saved."""


def write(folder: Path, manifest: dict[str, Any]) -> None:
    """Write `manifest` with the digests of all files in the subfolders of `folder`."""
    manifest = manifest | {"files": _file_digests(folder)}
    text = json.dumps(manifest | {"digest": _digest(manifest)}, indent=2) + "\n"
    (folder / _NAME).write_text(text, encoding="utf-8")


def exists(folder: Path) -> bool:
    """Return whether a folder has a manifest, valid or not."""
    return (folder / _NAME).is_file()


def read(folder: Path) -> dict[str, Any]:
    """Return the manifest after checking it and every file against their digests.

    Raises:
      DamagedError: If a file was changed, added or removed.
    """
    try:
        manifest = json.loads((folder / _NAME).read_bytes())
        digest, expected = manifest.pop("digest"), manifest["files"]
    except Exception as error:  # damaged bytes can raise many types
        raise DamagedError(f"{_NAME}: {type(error).__name__}") from error
    if digest != _digest(manifest):
        raise DamagedError(f"{_NAME} has changed")
    try:
        found = _file_digests(folder)
    except OSError as error:
        raise DamagedError(f"{error.filename}: {error.strerror}") from error
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise DamagedError(f"{name} is missing")
        if name not in expected:
            raise DamagedError(f"{name} does not belong to it")
        if expected[name] != found[name]:
            raise DamagedError(f"{name} has changed")
    return manifest


def _file_digests(folder: Path) -> dict[str, str]:
    """Return the digests of all files in subfolders; files in `folder` itself are not restored."""
    digests = {}
    for file in sorted(folder.glob("*/**/*")):
        if not file.is_dir():
            with file.open("rb") as stream:
                name = file.relative_to(folder).as_posix()
                digests[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
