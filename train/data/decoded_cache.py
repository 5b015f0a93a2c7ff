"""Decoded data sets in the user's cache folder, so that each one is decoded once."""

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from train.data.dataset import Split
from train.runtime import cache

_DIGEST = "sha256"


def cached(name: str, files: Sequence[Path], decode: Callable[[], Split]) -> Split:
    """Return the split that was decoded from the same files before, or decode it.

    Args:
      name: The name of the split, with the name and the version of its data set.
      files: The files that `decode` reads. If a name, a size or a modification time changes, the
        split is decoded again. If a file is missing, nothing is cached, and `decode` reports it.
      decode: Reads the split; called if there is no valid copy in the cache.
    """
    if not all(file.is_file() for file in files):
        return decode()
    key = hashlib.sha256(name.encode())
    for file in sorted(files):
        status = file.stat()
        key.update(f"\n{file.name} {status.st_size} {status.st_mtime_ns}".encode())
    folder = cache.cache_dir() / "decoded" / key.hexdigest()[:32]
    split = _load(folder)
    if split is None:
        split = decode()
        _save(folder, split)
    return split


def _load(folder: Path) -> Split | None:
    """Map the split in a folder into memory; return None if it is missing or damaged."""
    try:
        files = [folder / f"{field}.npy" for field in Split._fields]
        if (folder / _DIGEST).read_text(encoding="utf-8") != _sha256(files):
            return None
        return Split(*(np.load(file, mmap_mode="r") for file in files))
    except (OSError, ValueError):
        return None


def _save(folder: Path, split: Split) -> None:
    """Save the split atomically; only print a warning if that fails."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as temporary:
            partial = Path(temporary) / "split"
            partial.mkdir()
            files = [partial / f"{field}.npy" for field in split._fields]
            for file, array in zip(files, split, strict=True):
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
