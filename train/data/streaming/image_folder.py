"""Images in one folder per class, read where they are.

TFDS's own `ImageFolder` needs TensorFlow.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from train.data.dataset import Fingerprint
from train.data.records import EncodedImage
from train.errors import UserError

_TEST_SPLITS = ("test", "validation", "val")
_SUFFIXES = (".jpg", ".jpeg", ".png")
_LAYOUT = "FOLDER/train/CLASS/*.jpg and FOLDER/test/CLASS/*.jpg"


class ImageFolder:
    """A split: the classes sorted by name, and in each class the files sorted by name.

    Raises:
      UserError: If there are no class folders, or if one of them has no images.
    """

    fix_hint = "replace or remove the file"

    def __init__(self, folder: Path):
        self.folder = folder
        self.class_names = _sorted_names(folder, os.DirEntry.is_dir)
        if not self.class_names:
            raise UserError(f"{folder} has no class folders; the layout must be {_LAYOUT}")
        files, labels = [], []
        for label, name in enumerate(self.class_names):
            images = [
                file
                for file in _sorted_names(folder / name, os.DirEntry.is_file)
                if file.lower().endswith(_SUFFIXES)
            ]
            if not images:
                raise UserError(
                    f"the class folder {folder / name} has no images ({', '.join(_SUFFIXES)}); add "
                    "some, or remove the folder"
                )
            files += [os.fsencode(f"{name}/{file}") for file in images]
            labels += [label] * len(images)
        # An array, because a list of a million names is a million objects in each data worker.
        self._files = np.array(files)
        self._labels = np.array(labels, np.int32)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

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
        for index in range(len(self)):
            path = self._path(index)
            size = path.stat().st_size if path.exists() else -1  # reading it names the missing file
            digest.update(self._files[index] + f" {size}\n".encode())
        return {"examples": len(self), "sha256": digest.hexdigest()}

    def record_name(self, index: int) -> str:
        """Return the path of a file."""
        return str(self._path(index))

    def _path(self, index: int) -> Path:
        return self.folder / os.fsdecode(self._files[index])


def open_splits(data_dir: str) -> tuple[ImageFolder, ImageFolder]:
    """Open the training split and the test split.

    The test split is the first of the folders `test`, `validation` and `val` that exists.

    Raises:
      UserError: If a folder is missing or cannot be read, if a class is empty, or if the splits
        have different classes.
    """
    if not data_dir:
        raise UserError(f"config.data.name='folder' needs --config.data.dir=FOLDER with {_LAYOUT}")
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise UserError(f"the image folder {root} does not exist; fix --config.data.dir")
    tests = [root / name for name in _TEST_SPLITS if (root / name).is_dir()]
    if not (root / "train").is_dir() or not tests:
        raise UserError(
            f"{root} must have a folder 'train' and one of {', '.join(_TEST_SPLITS)}; the layout "
            f"must be {_LAYOUT}"
        )
    train, test = ImageFolder(root / "train"), ImageFolder(tests[0])
    if differing := sorted(set(train.class_names) ^ set(test.class_names)):
        raise UserError(
            f"{train.folder} and {test.folder} have different classes: "
            f"{', '.join(differing[:3])}{' ...' if differing[3:] else ''} in only one of them; add "
            "the class folder to the other one, or remove it"
        )
    return train, test


def _sorted_names(folder: Path, is_kind: Callable[[os.DirEntry], bool]) -> list[str]:
    """Return the sorted names in a folder of one kind of entry, without hidden ones."""
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.name for entry in entries if is_kind(entry) and not entry.name.startswith(".")
            )
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror}; fix the folder") from error
