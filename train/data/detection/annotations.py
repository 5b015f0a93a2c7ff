"""The objects of all images of a split, as columns."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from train.data.detection.coco_api import coco_api


class Objects(NamedTuple):
    """The objects of one image.

    Attributes:
      boxes: float64, (objects, 4); x1, y1, x2, y2 in pixels of the image.
      classes: int32, (objects,).
      crowd: bool, (objects,); see `DetectionBatch`.
      masks: The mask of each object in COCO's compressed run lengths; empty without masks.
    """

    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    masks: list[bytes]

    def select(self, rows: np.ndarray) -> "Objects":
        """Return some of the objects, by their indices."""
        masks = [self.masks[row] for row in rows] if self.masks else []
        return Objects(self.boxes[rows], self.classes[rows], self.crowd[rows], masks)


class Annotations(NamedTuple):
    """The objects of a split, sorted by image. They are arrays, so that they are cheap to pickle.

    Attributes:
      sizes: int32, (images, 2); the height and the width of each image.
      starts: int64, (images + 1,); image `i` has the objects `starts[i]` to `starts[i + 1] - 1`.
      boxes: float64, (objects, 4); x1, y1, x2, y2 in pixels of the image.
      classes: int32, (objects,).
      crowd: bool, (objects,); see `DetectionBatch`.
      areas: float64, (objects,); in pixels, as annotated: of the mask if there is one.
      mask_starts: int64, (objects + 1,), or (1,) without masks; the first byte of each mask.
      mask_bytes: uint8, (bytes,); COCO's compressed run lengths of all masks.
    """

    sizes: np.ndarray
    starts: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    mask_starts: np.ndarray
    mask_bytes: np.ndarray

    @property
    def num_images(self) -> int:
        return len(self.sizes)

    @property
    def num_objects(self) -> int:
        return len(self.classes)

    @property
    def has_masks(self) -> bool:
        """Whether the objects have masks; True if there are no objects."""
        return len(self.mask_starts) == self.num_objects + 1

    def image_objects(self, index: int) -> Objects:
        """Return the objects of an image."""
        rows = range(self.starts[index], self.starts[index + 1])
        masks = [self.mask(row) for row in rows] if self.has_masks else []
        one = slice(rows.start, rows.stop)
        return Objects(self.boxes[one], self.classes[one], self.crowd[one], masks)

    def mask(self, row: int) -> bytes:
        """Return the mask of an object, in COCO's compressed run lengths."""
        return self.mask_bytes[self.mask_starts[row] : self.mask_starts[row + 1]].tobytes()

    def select(self, ids: np.ndarray) -> "Annotations":
        """Return the objects of some images, which are numbered anew."""
        return from_images(
            self.sizes[ids].tolist(),
            [self.image_objects(index) for index in ids],
            [self.areas[self.starts[index] : self.starts[index + 1]] for index in ids],
        )

    def image_ids(self) -> np.ndarray:
        """Return the index of the image of each object: int64, (objects,)."""
        return np.repeat(np.arange(self.num_images), np.diff(self.starts))


def from_images(
    sizes: Sequence[tuple[int, int]], images: Sequence[Objects], areas: Sequence[np.ndarray]
) -> Annotations:
    """Return the annotations of images.

    Args:
      sizes: The height and the width of each image.
      images: The objects of each image. Either all objects have masks, or none.
      areas: The areas of the objects of each image.
    """
    masks = [mask for objects in images for mask in objects.masks]
    lengths = [len(mask) for mask in masks]
    return Annotations(
        sizes=np.array(sizes, np.int32).reshape(-1, 2),
        starts=np.cumsum([0, *(len(objects.classes) for objects in images)], dtype=np.int64),
        boxes=_join([objects.boxes for objects in images], np.float64).reshape(-1, 4),
        classes=_join([objects.classes for objects in images], np.int32),
        crowd=_join([objects.crowd for objects in images], np.bool_),
        areas=_join(areas, np.float64),
        mask_starts=np.cumsum([0, *lengths], dtype=np.int64),
        mask_bytes=np.frombuffer(b"".join(masks), np.uint8),
    )


def encode_mask(mask: np.ndarray) -> bytes:
    """Return a mask (height, width), bool or uint8 of 0 and 1, in COCO's compressed run lengths."""
    encoded = coco_api().mask.encode(np.asfortranarray(mask, np.uint8))
    return encoded["counts"]


def decode_mask(counts: bytes, height: int, width: int) -> np.ndarray:
    """Return the mask of compressed run lengths: uint8 of 0 and 1, (height, width)."""
    return coco_api().mask.decode({"size": [height, width], "counts": counts})


def _join(arrays: Sequence[Any], dtype: Any) -> np.ndarray:
    return np.concatenate([np.zeros((0, *np.shape(arrays[0])[1:])), *arrays]).astype(dtype)
