"""`manifest.json`: the digests of a checkpoint's files, by which damage is found."""

import hashlib
import json
from pathlib import Path
from typing import Any

_NAME = "manifest.json"


class DamagedError(Exception):
    """A checkpoint does not contain what was saved."""


def write(item: Path, name: str, manifest: dict[str, Any]) -> None:
    """Write `manifest` with the digests of the files of a checkpoint's item, next to the item.

    Args:
      item: The subfolder of the checkpoint that contains the files.
      name: The name that the subfolder will have when the checkpoint is complete.
      manifest: What else the manifest contains.
    """
    files = sorted(file for file in item.rglob("*") if not file.is_dir())
    digests = {Path(name, file.relative_to(item)).as_posix(): _file_digest(file) for file in files}
    manifest = manifest | {"files": digests}
    text = json.dumps(manifest | {"digest": _digest(manifest)}, indent=2) + "\n"
    (item.parent / _NAME).write_text(text, encoding="utf-8")


def exists(folder: Path) -> bool:
    """Return whether a folder has a manifest, valid or not."""
    return (folder / _NAME).is_file()


def read(folder: Path) -> dict[str, Any]:
    """Return the manifest after checking it and every file against their digests.

    Other files, such as those of file managers and network file systems, are ignored: Orbax
    does not read them.

    Raises:
      DamagedError: If a file was changed or removed.
    """
    try:
        manifest = json.loads((folder / _NAME).read_bytes())
        digest, expected = manifest.pop("digest"), manifest["files"]
    except Exception as error:  # damaged bytes can raise many types
        raise DamagedError(f"{_NAME}: {type(error).__name__}") from error
    if digest != _digest(manifest):
        raise DamagedError(f"{_NAME} has changed")
    for name in sorted(expected):
        try:
            changed = _file_digest(folder / name) != expected[name]
        except FileNotFoundError:
            raise DamagedError(f"{name} is missing") from None
        except OSError as error:
            raise DamagedError(f"{error.filename}: {error.strerror}") from error
        if changed:
            raise DamagedError(f"{name} has changed")
    return manifest


def _file_digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
