"""Any folder in COCO format: images, and JSON files with boxes and masks."""

import hashlib
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from train.data import records
from train.data.dataset import Fingerprint
from train.data.detection import coco_json, coco_layout, coco_objects
from train.data.detection.annotations import Annotations
from train.data.detection.coco_json import CocoFile, CocoImage
from train.data.detection.coco_layout import CocoFiles, CocoLayout
from train.data.detection.coco_objects import Problems
from train.data.detection.source import digest_objects
from train.data.streaming import decoding, image_check
from train.errors import UserError

_FIX_HINT = "restore the file and run the same command again, or use another --workdir"


class CocoImages:
    """A split of a folder in COCO format; see `train.data.detection.source.DetectionImages`.

    Attributes:
      annotations: The objects of all images, in the order of the annotation file.
      class_names: The names of the classes, in the order of their category ids.
    """

    def __init__(
        self,
        files: CocoFiles,
        names: Sequence[str],
        file_sizes: np.ndarray,
        annotations: Annotations,
        class_names: tuple[str, ...],
        exif_orientation: bool,
    ):
        self.annotations, self.class_names = annotations, class_names
        self._folder = files.images
        # An array, because a list of a million names is a million objects in each data worker.
        self._names = np.array([os.fsencode(name) for name in names])
        self._file_sizes = file_sizes
        self._exif_orientation = exif_orientation

    def image(self, index: int) -> Image.Image:
        """Return an image in RGB.

        Raises:
          DamagedError: If it cannot be read, or if its size is not the one in the annotations.
        """
        path = self._folder / os.fsdecode(self._names[index])
        height, width = self.annotations.sizes[index].tolist()
        try:
            with Image.open(path, formats=decoding.formats()) as file:
                transposition = decoding.orientation(file) if self._exif_orientation else None
                image = decoding.to_rgb(file)
            if transposition is not None:
                image = image.transpose(transposition)
            if image.size != (width, height):
                raise ValueError(
                    f"it has {image.height}x{image.width} pixels and not {height}x{width} as in "
                    "its annotation file"
                )
        except Exception as error:  # Pillow raises many types for damaged files
            raise records.damaged_error(str(path), error, _FIX_HINT) from error
        return image

    def fingerprint(self) -> Fingerprint:
        """Return the fingerprint of the objects and of the names and the sizes of the files."""
        digest = hashlib.sha256(digest_objects(self.annotations, self.class_names).encode())
        for name, size in zip(self._names, self._file_sizes, strict=True):
            digest.update(name + f" {size}\n".encode())
        return {"examples": len(self._names), "sha256": digest.hexdigest()}


class CocoSplits(NamedTuple):
    """The splits of a folder in COCO format.

    Attributes:
      train: The training split.
      test: The test split.
      note: One line about what was read, and what was not.
    """

    train: CocoImages
    test: CocoImages
    note: str


def open_splits(
    data_dir: str, *, masks: bool, on_error: str = "raise", exif_orientation: bool = True
) -> CocoSplits:
    """Find and check the images and the annotations of a folder; see `coco_layout.find`.

    Args:
      data_dir: The folder, `config.data.dir`.
      masks: Whether each object needs a mask.
      on_error: What to do about images and annotations that are wrong: "raise", or "skip" to leave
        them out.
      exif_orientation: Whether images are rotated as their EXIF data says. Annotations must be of
        the rotated images then.

    Raises:
      UserError: If there are no such files, if they contradict each other, or if anything is wrong
        and `on_error` is "raise".
    """
    layout = coco_layout.find(data_dir)
    train_file = coco_json.read(layout.train.annotations)
    test_file = coco_json.read(layout.test.annotations)
    names = {one.id: one.name for one in sorted(train_file.categories, key=lambda one: one.id)}
    _check_categories(layout, test_file, names)
    opened = []
    notes = [f"checked the headers of the images and the annotations in {layout.root}"]
    notes += layout.notes
    for files, file in ((layout.train, train_file), (layout.test, test_file)):
        problems = Problems()
        split = _open_split(files, file, names, masks, exif_orientation, problems)
        if problems and on_error == "raise":
            raise UserError(
                f"{files.annotations} has {problems.describe()}; correct the data, or set "
                "--config.data.on_error=skip to leave these images and annotations out"
            )
        if split.annotations.crowd.all():
            raise UserError(
                f"{files.annotations} has no objects in images that can be read; add some"
            )
        opened.append(split)
        notes += _notes(files, split, problems)
    notes += _overlap_notes(layout, train_file, test_file)
    train, test = opened
    return CocoSplits(train, test, "; ".join(notes))


def _check_categories(layout: CocoLayout, test_file: CocoFile, names: dict[int, str]) -> None:
    """Raise UserError if the test split has a class that the training split lacks."""
    for category in test_file.categories:
        if names.get(category.id) != category.name:
            raise UserError(
                f"{layout.test.annotations} has the category {category.id} {category.name!r}, but "
                f"{layout.train.annotations} has {names.get(category.id)!r} with this id; use the "
                "same categories in both files"
            )


def _open_split(
    files: CocoFiles,
    file: CocoFile,
    names: dict[int, str],
    masks: bool,
    exif_orientation: bool,
    problems: Problems,
) -> CocoImages:
    """Return what is right of a split, and add what is wrong to `problems`."""
    if masks and file.annotations and not any(one.segmentation for one in file.annotations):
        raise UserError(
            f"{files.annotations} has boxes but no masks; use a model that predicts boxes alone"
        )
    checked = image_check.check_files([files.images / image.file_name for image in file.images])
    kept = []
    for index, image in enumerate(file.images):
        size = tuple(checked.pixels[index].tolist())
        if index in checked.problems:
            reason = checked.problems[index]
            problems.add("images that cannot be read", f"{image.file_name} ({reason})")
        elif not _fits(image, size, exif_orientation):
            problems.add(
                "images of another size than in the file",
                f"{image.file_name} ({size[0]}x{size[1]} and not {image.height}x{image.width})",
            )
        else:
            kept.append(index)
    images = [file.images[index] for index in kept]
    annotations = coco_objects.convert(
        images,
        {image.id for image in file.images},
        file.annotations,
        {category_id: label for label, category_id in enumerate(names)},
        masks,
        problems,
    )
    return CocoImages(
        files,
        [image.file_name for image in images],
        checked.sizes[kept],
        annotations,
        tuple(names.values()),
        exif_orientation,
    )


def _fits(image: CocoImage, stored: tuple[int, ...], exif_orientation: bool) -> bool:
    """Return whether an image can have the size of the file; reading it checks the rotation."""
    size = image.height, image.width
    return stored == size or (exif_orientation and stored[::-1] == size)


def _notes(files: CocoFiles, split: CocoImages, problems: Problems) -> list[str]:
    """Return what a user may not expect about a split."""
    annotations, name = split.annotations, files.annotations.name
    notes = [f"{name}: {annotations.num_images:,} images, {annotations.num_objects:,} objects"]
    if empty := int((np.diff(annotations.starts) == 0).sum()):
        notes.append(f"images without objects, which only have background ({empty:,})")
    counts = np.bincount(annotations.classes, minlength=len(split.class_names))
    if missing := [split.class_names[label] for label in np.flatnonzero(counts == 0)]:
        notes.append(f"classes without objects ({len(missing):,}): {image_check.shown(missing, 3)}")
    if problems:
        notes.append(f"left out {problems.describe()}")
    return notes


def _overlap_notes(layout: CocoLayout, train_file: CocoFile, test_file: CocoFile) -> list[str]:
    """Return a line if some images are in both splits; empty if there are none."""
    if layout.train.images != layout.test.images:
        return []
    names = [{image.file_name for image in file.images} for file in (train_file, test_file)]
    shared = names[0] & names[1]
    return [f"images in both splits ({len(shared):,}), which favors the test"] if shared else []
