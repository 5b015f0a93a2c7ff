"""Images in one folder per class, read where they are.

TFDS's own `ImageFolder` needs TensorFlow.
"""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from train.data.dataset import Fingerprint
from train.data.records import EncodedImage
from train.data.streaming import folder_layout, image_check
from train.data.streaming.folder_layout import Files, Layout
from train.data.streaming.image_check import Checked
from train.errors import UserError


class ImageFolder:
    """A split: its files sorted by class, and in each class by name.

    Attributes:
      class_names: The names of the classes.
      num_classes: The number of classes.
    """

    fix_hint = (
        "restore the file and run the same command again, or remove the file and use another "
        "--workdir"
    )

    def __init__(self, files: Files, sizes: np.ndarray):
        self.folder, self.class_names = files.folder, files.class_names
        self.num_classes = len(files.class_names)
        # An array, because a list of a million names is a million objects in each data worker.
        self._files = np.array([os.fsencode(name) for name in files.names])
        self._labels = np.array(files.labels, np.int32)
        self._sizes = sizes

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> EncodedImage:
        return EncodedImage(self._path(index).read_bytes(), int(self._labels[index]))

    def labels(self) -> np.ndarray:
        """Return the label of each file."""
        return self._labels

    def fingerprint(self) -> Fingerprint:
        """Return the fingerprint of the names and the sizes of the files."""
        digest = hashlib.sha256()
        for name, size in zip(self._files, self._sizes, strict=True):
            digest.update(name + f" {size}\n".encode())
        return {"examples": len(self), "sha256": digest.hexdigest()}

    def record_name(self, index: int) -> str:
        """Return the path of a file."""
        return str(self._path(index))

    def _path(self, index: int) -> Path:
        return self.folder / os.fsdecode(self._files[index])


class Splits(NamedTuple):
    """The splits of an image folder.

    Attributes:
      train: The training split.
      test: The test split.
      note: One line about what was read, and what was not.
    """

    train: ImageFolder
    test: ImageFolder
    note: str


def open_splits(config: ConfigDict) -> Splits:
    """Find and check the images of the folder that `config.data` describes.

    Raises:
      UserError: If the folder has no such images. Also if some of them cannot be read, and
        `config.data.on_error` is "raise".
    """
    layout = folder_layout.find(config.data.dir, config.data.test_share)
    paths = [split.folder / name for split in (layout.train, layout.test) for name in split.names]
    checked = image_check.check_files(paths)
    problems = {
        str(paths[index].relative_to(layout.root)): reason
        for index, reason in checked.problems.items()
    }
    if problems and config.data.on_error == "raise":
        raise image_check.unreadable_error(
            problems,
            len(paths),
            f"replace or remove them in {layout.root}, or set --config.data.on_error=skip to leave "
            "them out",
        )
    train = _readable(layout.train, checked, 0)
    test = _readable(layout.test, checked, len(layout.train.names))
    _check_classes(train, test)
    return Splits(train, test, _note(layout, len(paths), problems, test))


def _readable(files: Files, checked: Checked, start: int) -> ImageFolder:
    """Return the readable files of a split; `start` is the index of its first file in `checked`."""
    kept = [index for index in range(len(files.names)) if start + index not in checked.problems]
    return ImageFolder(files.select(kept), checked.sizes[[start + index for index in kept]])


def _check_classes(train: ImageFolder, test: ImageFolder) -> None:
    """Raise UserError if a training class or the test split is empty."""
    if empty := _empty_classes(train):
        raise UserError(
            f"class folders in {train.folder} have no images that can be read: "
            f"{image_check.shown(empty, 3)}; add some, or remove the folders"
        )
    if not len(test):
        raise UserError(
            f"{test.folder} has no images to test on; add some, or set a larger "
            "--config.data.test_share"
        )


def _empty_classes(split: ImageFolder) -> list[str]:
    counts = np.bincount(split.labels(), minlength=split.num_classes)
    return [split.class_names[label] for label in np.flatnonzero(counts == 0)]


def _note(layout: Layout, num_checked: int, problems: dict[str, str], test: ImageFolder) -> str:
    """Return one line about what was read, and what was not."""
    notes = [f"checked the headers of {num_checked:,} images in {layout.root}", *layout.notes]
    if layout.skipped:
        notes.append(
            f"skipped files that are not images in a class folder ({len(layout.skipped):,}): "
            f"{image_check.shown(layout.skipped, 3)}"
        )
    if problems:
        notes.append(
            f"left out images that cannot be read ({len(problems):,}): "
            f"{image_check.shown(problems)}"
        )
    if empty := _empty_classes(test):
        notes.append(f"classes without test images ({len(empty):,}): {image_check.shown(empty, 3)}")
    return "; ".join(notes)
