"""The objects of a COCO file as columns, without those that are wrong."""

import collections
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from train.data.detection import annotations as columns
from train.data.detection import coco_json
from train.data.detection.annotations import Annotations, Objects
from train.data.detection.coco_json import CocoImage, CocoObject

_MAX_OUTSIDE = 1.0  # pixels; tools round the edges of boxes


class Problems:
    """What is wrong with a split: the names of the images or annotations, by the reason."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = collections.defaultdict(list)

    def __bool__(self) -> bool:
        return bool(self._names)

    def add(self, reason: str, name: str) -> None:
        """Add an image or annotation."""
        self._names[reason].append(name)

    def describe(self) -> str:
        """Return the reasons with counts and the first names, on one line."""
        return "; ".join(
            f"{reason} ({len(names):,}): {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
            for reason, names in self._names.items()
        )


class _Row(NamedTuple):
    """One object."""

    box: tuple[float, float, float, float]
    label: int
    crowd: bool
    area: float
    mask: bytes


def convert(
    images: Sequence[CocoImage],
    known_ids: set[coco_json.Id],
    objects: Sequence[CocoObject],
    labels: dict[int, int],
    masks: bool,
    problems: Problems,
) -> Annotations:
    """Return the objects of images.

    Args:
      images: The images of the result, in its order.
      known_ids: The ids of all images of the file; the objects of those that are not in `images`
        are left out without a problem.
      objects: All objects of the file.
      labels: The number of the class of each category id.
      masks: Whether the objects need masks.
      problems: Where objects that are wrong are added; they are left out.
    """
    rows: list[list[_Row]] = [[] for _ in images]
    places = {image.id: place for place, image in enumerate(images)}
    for thing in objects:
        place = places.get(thing.image_id)
        if place is None:
            if thing.image_id not in known_ids:
                problems.add("annotations of unknown images", thing.name)
            continue
        try:
            rows[place].append(_convert(thing, images[place], labels, masks))
        except _WrongError as error:
            problems.add(error.reason, f"{thing.name}{error.detail}")
    return columns.from_images(
        [(image.height, image.width) for image in images],
        [_stack(row, masks) for row in rows],
        [np.array([thing.area for thing in row], np.float64) for row in rows],
    )


def _convert(thing: CocoObject, image: CocoImage, labels: dict[int, int], masks: bool) -> _Row:
    label = labels.get(thing.category_id)
    if label is None:
        raise _WrongError("annotations of unknown categories")
    x, y, width, height = thing.bbox
    if width <= 0 or height <= 0:
        raise _WrongError("boxes without area")
    right, bottom = x + width, y + height
    outside = max(-x, -y, right - image.width, bottom - image.height)
    if outside > _MAX_OUTSIDE:
        raise _WrongError(f"boxes that leave the image by more than {_MAX_OUTSIDE:.0f} pixel")
    box = max(x, 0.0), max(y, 0.0), min(right, image.width), min(bottom, image.height)
    if box[0] >= box[2] or box[1] >= box[3]:
        raise _WrongError("boxes without area")
    area, counts = thing.area, b""
    if masks:
        if not thing.segmentation:
            raise _WrongError("annotations without a mask")
        try:
            mask = coco_json.encode_segmentation(thing.segmentation, image.height, image.width)
        except ValueError as error:
            raise _WrongError("masks that cannot be read", f" ({error})") from None
        counts, area = mask.counts, mask.area if area is None else area
    return _Row(box, label, thing.iscrowd, width * height if area is None else area, counts)


def _stack(rows: list[_Row], masks: bool) -> Objects:
    return Objects(
        boxes=np.array([row.box for row in rows], np.float64).reshape(-1, 4),
        classes=np.array([row.label for row in rows], np.int32),
        crowd=np.array([row.crowd for row in rows], np.bool_),
        masks=[row.mask for row in rows] if masks else [],
    )


class _WrongError(Exception):
    """An annotation cannot be used."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason)
        self.reason, self.detail = reason, detail
