"""The part of a mask around its object: an image of many objects has room for all of them."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from train.data.detection.annotations import decode_mask


class LocalMask(NamedTuple):
    """A part of a mask; there is no object outside of it.

    Attributes:
      left: The column of the image in which it begins.
      top: The row of the image in which it begins.
      pixels: uint8 of 0 and 1.
    """

    left: int
    top: int
    pixels: np.ndarray

    def area(self) -> int:
        """Return the number of pixels of the object."""
        return int(np.count_nonzero(self.pixels))

    def cut(self, left: int, top: int, right: int, bottom: int) -> "LocalMask":
        """Return the part in a rectangle of the image, which can be empty."""
        rows = slice(max(0, top - self.top), max(0, bottom - self.top))
        columns = slice(max(0, left - self.left), max(0, right - self.left))
        return LocalMask(max(left, self.left), max(top, self.top), self.pixels[rows, columns])

    def tight_box(self) -> np.ndarray:
        """Return x1, y1, x2, y2 in pixels of the image; the mask must not be empty."""
        columns, rows = np.flatnonzero(self.pixels.any(0)), np.flatnonzero(self.pixels.any(1))
        box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        return np.array(box, np.float64) + np.tile([self.left, self.top], 2)

    def resample(self, box: np.ndarray, side: int) -> np.ndarray:
        """Return the part in a box, resampled with antialiasing.

        Args:
          box: x1, y1, x2, y2 in pixels of the image; inside the box of `local_mask`, with an area
            above 0.
          side: The height and width of the result.

        Returns:
          uint8 of 0 and 1, (side, side): 1 where at least half of the area is covered.
        """
        image = Image.fromarray(np.ascontiguousarray(self.pixels) * np.uint8(255))
        local = tuple((box - np.tile([self.left, self.top], 2)).tolist())
        resampled = image.resize((side, side), Image.Resampling.BILINEAR, local)
        return (np.asarray(resampled) >= 128).astype(np.uint8)


def local_mask(
    counts: bytes, height: int, width: int, box: np.ndarray, max_scale: float
) -> LocalMask:
    """Return the part of a mask that contains its pixels and its box.

    Args:
      counts: The mask, in COCO's compressed run lengths.
      height: The height of the image.
      width: The width of the image.
      box: x1, y1, x2, y2 in pixels of the image.
      max_scale: The most by which it will be scaled down, which determines how many pixels around
        the box are needed.
    """
    whole = LocalMask(0, 0, decode_mask(counts, height, width))
    margin = int(max_scale) + 2
    if whole.pixels.any():
        tight = whole.tight_box()
        box = np.concatenate([np.minimum(box[:2], tight[:2]), np.maximum(box[2:], tight[2:])])
    left, top = np.maximum(np.floor(box[:2]).astype(int) - margin, 0).tolist()
    right, bottom = (np.ceil(box[2:]).astype(int) + margin).tolist()
    part = whole.cut(left, top, right, bottom)
    return part._replace(pixels=part.pixels.copy())  # without a reference to the whole mask
