"""The layout of an image folder: its splits, its classes and its files.

The names of the splits are those of Hugging Face's `imagefolder`. As in torchvision, the name of a
class is that of the first folder below the split.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from train.config.paths import local_path
from train.data.streaming import decoding, image_check
from train.errors import UserError

_TRAIN = ("train", "training")
_TEST = ("test", "testing", "eval", "evaluation", "validation", "valid", "val", "dev")
_LAYOUT = "FOLDER/train/CLASS/*.jpg and FOLDER/test/CLASS/*.jpg"


class Files(NamedTuple):
    """The image files of a split.

    Attributes:
      folder: The folder of the split.
      class_names: The names of all classes.
      names: The paths of the files in the folder, sorted by class, and in each class by name.
      labels: The class of each file.
    """

    folder: Path
    class_names: tuple[str, ...]
    names: list[str]
    labels: list[int]

    def select(self, ids: Sequence[int]) -> "Files":
        """Return some of the files."""
        names, labels = [self.names[index] for index in ids], [self.labels[index] for index in ids]
        return self._replace(names=names, labels=labels)


class Layout(NamedTuple):
    """The files of an image folder.

    Attributes:
      root: The image folder.
      train: The training split.
      test: The test split.
      skipped: The paths in `root` of files that are not images in a class folder.
      notes: What a user may not expect about the choice of the splits.
    """

    root: Path
    train: Files
    test: Files
    skipped: list[str]
    notes: list[str]


def find(data_dir: str, test_share: float) -> Layout:
    """Find the splits of an image folder.

    The test split is the first folder with classes of `test`, `validation`, `valid` and `val`.
    Without such a folder it is `test_share` of each class of the training split.

    Raises:
      UserError: If there is no such folder, if it cannot be read, or if the test split has a class
        that the training split lacks.
    """
    if not data_dir:
        raise UserError(f"config.data.name='folder' needs --config.data.dir=FOLDER with {_LAYOUT}")
    root = local_path("config.data.dir", data_dir)
    if not root.is_dir():
        raise UserError(f"the image folder {root} does not exist; fix --config.data.dir")
    folders, loose = _entries(root)
    splits = {name.lower(): name for name in reversed(folders)}
    train_name = next((splits[name] for name in _TRAIN if name in splits), None)
    tests = [splits[name] for name in _TEST if name in splits]
    if train_name is None and tests:
        raise UserError(
            f"{root} has a folder {tests[0]!r} but no folder 'train'; the layout must be {_LAYOUT}"
        )
    train, skipped = _list_images(root / (train_name or ""))
    if train_name is not None:
        skipped += loose
    if len(train.class_names) < 2:
        raise UserError(
            f"{train.folder} has only the class folder {train.class_names[0]!r}; choose "
            f"--config.data.dir so that the layout is {_LAYOUT}, with two or more classes"
        )
    labeled = _labeled_splits(root, tests, train.class_names)
    if labeled and test_share:
        raise UserError(
            f"config.data.test_share={test_share} is for image folders without a test split, but "
            f"{root} has the folder {labeled[0]!r}; set it to 0"
        )
    if labeled:
        test, more = _list_images(root / labeled[0], train.class_names)
        skipped += more
    elif test_share:
        train, test = _hold_out(train, test_share)
    else:
        raise UserError(
            f"{root} has no folder 'test', 'valid', 'val' or 'validation' with class folders; add "
            f"one ({_LAYOUT}), or set --config.data.test_share to the share of the images of each "
            "class to test on, such as 0.2"
        )
    names = sorted(str(path.relative_to(root)) for path in skipped)
    return Layout(root, train, test, names, _choice_notes(folders, train_name, tests, labeled))


def _labeled_splits(root: Path, names: list[str], class_names: tuple[str, ...]) -> list[str]:
    """Return the splits with folders of the classes; if there are none, those with any folders."""
    folders = {name: _entries(root / name)[0] for name in names}
    labeled = [name for name in names if set(folders[name]) & set(class_names)]
    return labeled or [name for name in names if folders[name]]


def _choice_notes(
    folders: list[str], train_name: str | None, tests: list[str], labeled: list[str]
) -> list[str]:
    """Return what is not read of the folders beside the training split."""
    if train_name is None:
        return []
    unlabeled = [name for name in tests if name not in labeled]
    notes = [f"{name}/ has no folders of the classes and is not used" for name in unlabeled]
    if labeled and tests[0] != labeled[0]:
        notes.append(f"{labeled[0]}/ is the test split")
    unused = [name for name in folders if name not in (train_name, *unlabeled, *labeled[:1])]
    if unused:
        notes.append(f"not used: {image_check.shown([f'{name}/' for name in unused], 3)}")
    return notes


def _list_images(
    folder: Path, class_names: tuple[str, ...] | None = None
) -> tuple[Files, list[Path]]:
    """Return the images below the class folders of a split, and its other files.

    Args:
      folder: The folder of the split.
      class_names: The classes of the training split; None if this is the training split.
    """
    own_names, skipped = _entries(folder)
    if class_names is None:
        if not own_names:
            raise UserError(f"{folder} has no class folders; the layout must be {_LAYOUT}")
        class_names = tuple(own_names)
    elif unknown := sorted(set(own_names) - set(class_names)):
        raise UserError(
            f"{folder} has class folders that the training split lacks: "
            f"{image_check.shown(unknown, 3)}; add them to the training split, or move them away"
        )
    names: list[str] = []
    labels: list[int] = []
    for label, class_name in enumerate(class_names):
        found = sorted(_files_below(folder, class_name)) if class_name in own_names else []
        images = [name for name in found if name.lower().endswith(decoding.suffixes())]
        skipped += [folder / name for name in set(found) - set(images)]
        names += images
        labels += [label] * len(images)
    return Files(folder, class_names, names, labels), skipped


def _hold_out(files: Files, share: float) -> tuple[Files, Files]:
    """Split off a share of each class, the same files on every machine and at every start.

    At least one file of each class remains in the first part.
    """
    classes: list[list[int]] = [[] for _ in files.class_names]
    for index, label in enumerate(files.labels):
        classes[label].append(index)
    held: set[int] = set()
    for ids in classes:
        # By the digest of the name, because neighbors are often similar, such as frames of a video.
        ids.sort(key=lambda index: hashlib.sha256(os.fsencode(files.names[index])).digest())
        held.update(ids[: min(round(len(ids) * share), len(ids) - 1)])
    kept = [index for index in range(len(files.names)) if index not in held]
    return files.select(kept), files.select(sorted(held))


def _entries(folder: Path) -> tuple[list[str], list[Path]]:
    """Return the sorted names of the folders in a folder, and its files, without hidden ones."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
            folders = sorted(entry.name for entry in visible if entry.is_dir())
            return folders, [folder / entry.name for entry in visible if not entry.is_dir()]
    except OSError as error:
        _raise_unreadable(error)


def _files_below(folder: Path, class_name: str) -> Iterator[str]:
    """Yield the paths in `folder` of the files below a class folder, without hidden ones."""
    visited: set[tuple[int, int]] = set()
    for path, folders, files in os.walk(
        folder / class_name, onerror=_raise_unreadable, followlinks=True
    ):
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in visited:  # a link back
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith("."):
                yield os.path.relpath(os.path.join(path, name), folder)


def _raise_unreadable(error: OSError) -> NoReturn:
    raise UserError(f"cannot read {error.filename}: {error.strerror}; fix the folder") from error
