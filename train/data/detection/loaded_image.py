"""An image in memory with its objects, of which several examples can be made."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from train.data.detection.annotations import Objects
from train.data.detection.local_mask import LocalMask, local_mask
from train.data.detection.source import DetectionImages
from train.data.detection.views import View

MIN_SHARE = 0.5
"""The share of an object that a view must show for the object to be learned."""


class LoadedImage(NamedTuple):
    """An image and its objects.

    Attributes:
      image_id: The index of the image in its split.
      image: The image in RGB.
      objects: Its objects.
      masks: The masks of the objects; empty without masks.
    """

    image_id: int
    image: Image.Image
    objects: Objects
    masks: list[LocalMask]


class VisibleObjects(NamedTuple):
    """The objects that a view shows.

    Attributes:
      boxes: float64, (objects, 4); x1, y1, x2, y2 in pixels of the image, cut by the view.
      classes: int32, (objects,).
      crowd: bool, (objects,); see `visible_objects`.
      masks: The whole masks; empty without masks.
    """

    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    masks: list[LocalMask]

    def select(self, rows: np.ndarray) -> "VisibleObjects":
        """Return some of the objects, by their indices."""
        masks = [self.masks[row] for row in rows] if self.masks else []
        return VisibleObjects(self.boxes[rows], self.classes[rows], self.crowd[rows], masks)


def load_image(images: DetectionImages, index: int, mask_size: int) -> LoadedImage:
    """Read an image and its objects.

    Args:
      images: The split.
      index: The index of the image.
      mask_size: The height and width to which masks will be resampled; 0 for no masks.

    Raises:
      UserError: If the image cannot be read.
    """
    objects = images.annotations.image_objects(index)
    height, width = images.annotations.sizes[index].tolist()
    masks = []
    if mask_size:
        scales = (objects.boxes[:, 2:] - objects.boxes[:, :2]).max(1) / mask_size
        masks = [
            local_mask(counts, height, width, box, scale)
            for counts, box, scale in zip(objects.masks, objects.boxes, scales, strict=True)
        ]
    return LoadedImage(index, images.image(index), objects, masks)


def visible_objects(objects: Objects, masks: list[LocalMask], view: View) -> VisibleObjects:
    """Return the objects that a view shows, with their boxes cut.

    An object of which less than half is visible counts as `crowd`: it is neither a positive nor a
    negative example. What no pixel shows is left out. The share is that of the mask; without masks
    it is that of the box. The box of an object that is cut is the tight one of the visible mask.
    """
    window: np.ndarray = np.array([view.left, view.top, view.right, view.bottom], np.float64)
    boxes = _intersection(objects.boxes, window)
    shares = _areas(boxes) / _areas(objects.boxes)
    if masks:
        for row in np.flatnonzero((shares > 0) & (shares < 1)):
            whole, visible = masks[row], masks[row].cut(*view[:4])
            if area := whole.area():
                shares[row] = visible.area() / area
            if visible.area():
                boxes[row] = _intersection(visible.tight_box()[None], boxes[row])[0]
    shown = np.flatnonzero((shares > 0) & (_areas(boxes) > 0))
    crowd = objects.crowd | (shares < MIN_SHARE)
    return VisibleObjects(boxes, objects.classes, crowd, masks).select(shown)


def _intersection(boxes: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Return the part of each box in a window; one outside has no area."""
    upper_left = np.maximum(boxes[:, :2], window[None, :2])
    lower_right = np.maximum(np.minimum(boxes[:, 2:], window[None, 2:]), upper_left)
    return np.concatenate([upper_left, lower_right], axis=1)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
