"""The check of image files before training: their headers, and whether they are complete."""

import concurrent.futures
import itertools
import os
import stat
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from train.data.streaming import decoding
from train.errors import UserError, truncate

_THREADS = 16  # on a network file system most of the time is waiting
_CHUNK = 256  # files in a task of a thread
_SHOWN = 10
_ENDS = {
    "GIF": b";",
    "JPEG": b"\xff\xd9",
    "JPEG2000": b"\xff\xd9",
    "MPO": b"\xff\xd9",
    "PNG": b"IEND\xaeB`\x82",
}
"""The last bytes of a complete file."""


class Checked(NamedTuple):
    """What a check of files found.

    Attributes:
      sizes: int64, (files,); in bytes; -1 for a file that cannot be read.
      pixels: int64, (files, 2); height and width as stored, without the rotation of EXIF data; 0
        if unknown.
      problems: Why a file is not a readable image, by its index, in order.
    """

    sizes: np.ndarray
    pixels: np.ndarray
    problems: dict[int, str]


class _File(NamedTuple):
    """What a check of one file found; `problem` is "" for a readable image."""

    size: int
    pixels: tuple[int, int]
    problem: str


def check_files(paths: Sequence[Path]) -> Checked:
    """Read the headers of image files, in threads.

    A file that lacks the last bytes of its format is decoded, because it can be truncated.
    """
    chunks = [range(start, len(paths))[:_CHUNK] for start in range(0, len(paths), _CHUNK)]

    def check(chunk: range) -> list[_File]:
        return [_check_file(paths[index]) for index in chunk]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the same files, one line each
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            results = [result for part in pool.map(check, chunks) for result in part]
    problems = {index: file.problem for index, file in enumerate(results) if file.problem}
    sizes = np.array([file.size for file in results], np.int64)
    pixels = np.array([file.pixels for file in results], np.int64).reshape(-1, 2)
    return Checked(sizes, pixels, problems)


def unreadable_error(problems: Mapping[str, str], total: int, fix_hint: str) -> UserError:
    """Return the error for images that cannot be read.

    Args:
      problems: The reason for each of them, by its name.
      total: The number of images, with the readable ones.
      fix_hint: What a user can do.
    """
    reasons = [f"{name} ({reason})" for name, reason in problems.items()]
    return UserError(
        f"cannot read {len(problems):,} of {total:,} images: {shown(reasons)}; {fix_hint}"
    )


def shown(names: Collection[str], limit: int = _SHOWN) -> str:
    """Return the first names as one text, which is printable also if the names are not."""
    first = itertools.islice(names, limit)
    text = ", ".join(name if name.isprintable() else repr(name) for name in first)
    return text + (", ..." if len(names) > limit else "")


def _check_file(path: Path) -> _File:
    """Return the size of a file and of its image, and why it is not a readable image."""
    size, pixels = -1, (0, 0)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            return _File(size, pixels, "not a file")
        size = status.st_size
        with path.open("rb") as file, Image.open(file, formats=decoding.formats()) as image:
            decoding.to_rgb(Image.new(image.mode, (1, 1)))
            pixels = image.height, image.width
            if not min(pixels):
                return _File(size, pixels, "no pixels")
            if not _is_complete(file, image.format or ""):
                image.load()
    except UnidentifiedImageError:
        return _File(size, pixels, "empty" if not size else "not an image")
    except OSError as error:
        return _File(size, pixels, truncate(error.strerror or str(error), 100))
    except Exception as error:  # Pillow raises many types for damaged files
        return _File(size, pixels, truncate(str(error) or type(error).__name__, 100))
    return _File(size, pixels, "")


def _is_complete(file: BinaryIO, format_: str) -> bool:
    """Return whether a file ends as its format says; True if the format does not say it."""
    end = _ENDS.get(format_)
    if end is None:
        return True
    position = file.tell()
    file.seek(-len(end), os.SEEK_END)
    last = file.read()
    file.seek(position)
    return last == end
