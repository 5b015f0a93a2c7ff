"""The layout of a folder in COCO format: its annotation files and its images."""

from pathlib import Path
from typing import NamedTuple

from train.config.paths import local_path
from train.errors import UserError

_LAYOUT = "FOLDER/images/*, FOLDER/instances_train.json and FOLDER/instances_test.json"


class CocoFiles(NamedTuple):
    """The files of a split.

    Attributes:
      annotations: The annotation file.
      images: The folder of the images, to which the names in the annotation file are relative.
    """

    annotations: Path
    images: Path


class CocoLayout(NamedTuple):
    """The files of a folder in COCO format.

    Attributes:
      root: The folder.
      train: The files of the training split.
      test: The files of the test split.
      notes: What a user may not expect about the choice of the splits.
    """

    root: Path
    train: CocoFiles
    test: CocoFiles
    notes: tuple[str, ...]


def find(data_dir: str) -> CocoLayout:
    """Find the splits of a folder in COCO format.

    The annotation files are `instances_train*.json`, and `instances_test*.json` or else
    `instances_val*.json`, in the folder or in its folder `annotations`, where COCO itself has
    them. The images of `instances_NAME.json` are in the first of these folders that exists:
    `images/NAME`, `NAME` as in COCO itself, and `images`.

    Raises:
      UserError: If there are no such files, or several for one split.
    """
    if not data_dir:
        raise UserError(f"a data set in COCO format needs --config.data.dir=FOLDER with {_LAYOUT}")
    root = local_path("config.data.dir", data_dir)
    if not root.is_dir():
        raise UserError(f"the folder {root} does not exist; fix --config.data.dir")
    train, tests, validations = (_annotations(root, name) for name in ("train", "test", "val"))
    if train is None or (tests or validations) is None:
        missing = "instances_train*.json" if train is None else "instances_test*.json"
        raise UserError(
            f"{root} has no {missing}, also not in its folder 'annotations'; the layout must be "
            f"{_LAYOUT}"
        )
    notes: tuple[str, ...] = ()
    if tests and validations:
        notes = (f"{validations.name} is not used",)
    test = tests or validations
    assert test is not None
    return CocoLayout(root, _files(root, train), _files(root, test), notes)


def _annotations(root: Path, split: str) -> Path | None:
    """Return the annotation file of a split, or None."""
    folders = (root, root / "annotations")
    found = [file for folder in folders for file in sorted(folder.glob(f"instances_{split}*.json"))]
    if len(found) > 1:
        names = ", ".join(str(file.relative_to(root)) for file in found)
        raise UserError(
            f"{root} has several annotation files instances_{split}*.json: {names}; keep one of "
            "them there"
        )
    return found[0] if found else None


def _files(root: Path, annotations: Path) -> CocoFiles:
    name = annotations.stem.removeprefix("instances_")
    folders = [root / "images" / name, root / name, root / "images"]
    images = next((folder for folder in folders if folder.is_dir()), None)
    if images is None:
        names = ", ".join(str(folder.relative_to(root)) for folder in folders)
        raise UserError(
            f"{root} has no folder with the images of {annotations.name}; it must be one of {names}"
        )
    return CocoFiles(annotations, images)
