"""Decoded data sets in the user's cache folder, so that each one is decoded once."""

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from train.runtime import cache

_DIGEST = "sha256"

Arrays = TypeVar("Arrays", bound=Any)
"""A named tuple of NumPy arrays, such as `train.data.dataset.Split`."""


def cached(
    kind: type[Arrays], name: str, files: Sequence[Path], decode: Callable[[], Arrays]
) -> Arrays:
    """Return the arrays that were decoded from the same files before, or decode them.

    Args:
      kind: The type of the result.
      name: The name of the content, with the name and the version of its data set.
      files: The files that `decode` reads. If a name, a size or a modification time changes, the
        content is decoded again. If a file is missing, nothing is cached, and `decode` reports it.
      decode: Reads the content; called if there is no valid copy in the cache.
    """
    if not all(file.is_file() for file in files):
        return decode()
    key = hashlib.sha256(name.encode())
    for file in sorted(files):
        status = file.stat()
        key.update(f"\n{file.name} {status.st_size} {status.st_mtime_ns}".encode())
    folder = cache.cache_dir() / "decoded" / key.hexdigest()[:32]
    arrays = _load(kind, folder)
    if arrays is None:
        arrays = decode()
        _save(folder, arrays)
    return arrays


def _load(kind: type[Arrays], folder: Path) -> Arrays | None:
    """Map the arrays in a folder into memory; return None if they are missing or damaged."""
    try:
        files = [folder / f"{field}.npy" for field in kind._fields]
        if (folder / _DIGEST).read_text(encoding="utf-8") != _sha256(files):
            return None
        return kind(*(np.load(file, mmap_mode="r") for file in files))
    except (OSError, ValueError):
        return None


def _save(folder: Path, arrays: Any) -> None:
    """Save the arrays atomically; only print a warning if that fails."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as temporary:
            partial = Path(temporary) / "arrays"
            partial.mkdir()
            files = [partial / f"{field}.npy" for field in arrays._fields]
            for file, array in zip(files, arrays, strict=True):
                np.save(file, array)
            (partial / _DIGEST).write_text(_sha256(files), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
    except OSError as error:
        print(
            f"cannot cache the decoded data in {folder.parent}: {error.strerror}", file=sys.stderr
        )


def _sha256(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
