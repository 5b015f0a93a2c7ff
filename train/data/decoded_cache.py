"""Decoded images in the user's cache folder, so that a data set is decoded once."""

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from train.data.dataset import Split
from train.runtime import cache

_SEAL = "sha256"


def remembered(name: str, files: Iterable[Path], decode: Callable[[], Split]) -> Split:
    """A split as it was decoded from the same files before, else as it is decoded now.

    Args:
      name: of the split, its data set and that one's version.
      files: what it is decoded from; other names, sizes or times of change, and it is another one.
      decode: is called if nothing sound is remembered.
    """
    digest = hashlib.sha256(name.encode())
    for file in sorted(files):
        status = file.stat()
        digest.update(f"\n{file.name} {status.st_size} {status.st_mtime_ns}".encode())
    folder = cache.cache_dir() / "decoded" / digest.hexdigest()[:32]
    split = _read(folder)
    if split is None:
        split = decode()
        _write(folder, split)
    return split


def _read(folder: Path) -> Split | None:
    """What is in the folder, mapped into memory; None if that is nothing, or is damaged."""
    try:
        files = [folder / f"{field}.npy" for field in Split._fields]
        if (folder / _SEAL).read_text() != _sha256(files):
            return None
        return Split(*(np.load(file, mmap_mode="r") for file in files))
    except (OSError, ValueError):
        return None


def _write(folder: Path, split: Split) -> None:
    """Writes it beside its place and moves it there; to have failed costs time, and is said."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as scratch:
            partial = Path(scratch) / "split"
            partial.mkdir()
            files = [partial / f"{field}.npy" for field in split._fields]
            for file, array in zip(files, split, strict=True):
                np.save(file, array)
            (partial / _SEAL).write_text(_sha256(files))
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
    except OSError as error:
        print(f"cannot keep the decoded data in {folder.parent}: {error.strerror}", file=sys.stderr)


def _sha256(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
