"""Images in a folder for each class, read without a copy of them.

TFDS's own `ImageFolder` needs TensorFlow.
"""

import os
from pathlib import Path

import numpy as np

from train.data.streaming.source import EncodedImage
from train.errors import UserError

_TEST_SPLITS = ("test", "validation", "val")
_ENDINGS = (".jpg", ".jpeg", ".png")
_LAYOUT = "FOLDER/train/CLASS/*.jpg and FOLDER/test/CLASS/*.jpg"


class ImageFolder:
    """One split: the classes in the order of their names, in each the files in that of theirs.

    Raises:
      UserError: there is no image, or a class has none.
    """

    fix_hint = "replace the file or take it away"

    def __init__(self, folder: Path):
        self.folder = folder
        self.class_names = _sorted_names(folder, os.DirEntry.is_dir)
        if not self.class_names:
            raise UserError(f"{folder} has no folders of classes; what is needed is {_LAYOUT}")
        files, labels = [], []
        for label, name in enumerate(self.class_names):
            images = [
                file
                for file in _sorted_names(folder / name, os.DirEntry.is_file)
                if file.lower().endswith(_ENDINGS)
            ]
            if not images:
                raise UserError(
                    f"the class folder {folder / name} has no images ({', '.join(_ENDINGS)}); add "
                    "some, or take the folder away"
                )
            files += [os.fsencode(f"{name}/{file}") for file in images]
            labels += [label] * len(images)
        # A list of a million names would be as many objects, in every process that decodes.
        self._files = np.array(files)
        self._labels = np.array(labels, np.int32)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> EncodedImage:
        return EncodedImage(self._path(index).read_bytes(), int(self._labels[index]))

    def where(self, index: int) -> str:
        return str(self._path(index))

    def _path(self, index: int) -> Path:
        return self.folder / os.fsdecode(self._files[index])


def open_splits(data_dir: str) -> tuple[ImageFolder, ImageFolder]:
    """The training split, and the test split: the first of `test`, `validation` and `val`.

    Raises:
      UserError: a folder is not there or not readable, a class is empty, or the splits have not
        the same classes.
    """
    if not data_dir:
        raise UserError(f"config.data.name='folder' needs --config.data.dir=FOLDER with {_LAYOUT}")
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise UserError(f"the image folder {root} does not exist; fix --config.data.dir")
    tests = [root / name for name in _TEST_SPLITS if (root / name).is_dir()]
    if not (root / "train").is_dir() or not tests:
        raise UserError(
            f"{root} must have a folder 'train' and one of {', '.join(_TEST_SPLITS)}; what is "
            f"needed is {_LAYOUT}"
        )
    train, test = ImageFolder(root / "train"), ImageFolder(tests[0])
    if differing := sorted(set(train.class_names) ^ set(test.class_names)):
        raise UserError(
            f"{train.folder} and {test.folder} have not the same classes: "
            f"{', '.join(differing[:3])}{' ...' if differing[3:] else ''} is in one alone; add the "
            "folder to the other, or take it away"
        )
    return train, test


def _sorted_names(folder: Path, is_kind) -> list[str]:
    """The names in a folder of files or of folders; hidden ones are not for us."""
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.name for entry in entries if is_kind(entry) and not entry.name.startswith(".")
            )
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror}; fix the folder") from error
