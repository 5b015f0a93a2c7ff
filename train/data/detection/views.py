"""What is shown of an image: all of it or a part, and the size that it is resized to."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

_PAD_MULTIPLE = 32  # so that a feature pyramid halves a padded image five times


class ViewOptions(NamedTuple):
    """How images become examples.

    Attributes:
      short_side: The length of the shorter side of a resized image, in pixels. It is less if the
        longer side would exceed `long_side`. The aspect ratio is kept.
      long_side: The largest length of the longer side, in pixels.
      tile: The side of the squares that training images are cut into. Training then uses tiles
        and testing whole images, neither of them resized. 0 for whole images.
      scale_jitter: The smallest and the largest factor by which a training image is resized in
        addition. If it becomes larger than the padded size, it is cropped at random.
      flip: Whether half of the training images are flipped horizontally.
      max_objects: The number of objects in an example; see `train.data.detection.example`.
      mask_size: The height and width of the mask of each object; 0 for boxes alone.

    References:
      Lin et al., Feature Pyramid Networks for Object Detection, CVPR 2017, for the sides 800 and
      1333 of later implementations.
    """

    short_side: int = 800
    long_side: int = 1333
    tile: int = 0
    scale_jitter: tuple[float, float] = (1.0, 1.0)
    flip: bool = True
    max_objects: int = 100
    mask_size: int = 112


class View(NamedTuple):
    """A rectangle of an image in whole pixels, and the size that it is resized to.

    Attributes:
      left: The first column.
      top: The first row.
      right: The column after the last one.
      bottom: The row after the last one.
      height: The height after resizing.
      width: The width after resizing.
    """

    left: int
    top: int
    right: int
    bottom: int
    height: int
    width: int


def whole_view(height: int, width: int, options: ViewOptions) -> View:
    """Return the view of a whole image, as in testing.

    >>> whole_view(480, 640, ViewOptions(short_side=800, long_side=1333))
    View(left=0, top=0, right=640, bottom=480, height=800, width=1067)
    """
    return _resized(0, 0, height, width, _scale(height, width, options))


def resized_sizes(sizes: np.ndarray, options: ViewOptions) -> np.ndarray:
    """Return the sizes of whole images after resizing: int32, (images, 2); height and width.

    Args:
      sizes: int, (images, 2); the height and the width of each image.
      options: How images become examples.
    """
    views = [whole_view(height, width, options) for height, width in sizes.tolist()]
    return np.array([(view.height, view.width) for view in views], np.int32).reshape(-1, 2)


def random_view(rng: np.random.Generator, height: int, width: int, options: ViewOptions) -> View:
    """Return a random view of a training image: a tile, or the image with a jitter of its scale."""
    if options.tile:
        bottom, right = min(height, options.tile), min(width, options.tile)
        return _moved(rng, height, width, View(0, 0, right, bottom, bottom, right))
    low, high = options.scale_jitter
    if low == high == 1:
        return whole_view(height, width, options)
    most_rows, most_columns = padded_shape(height, width, options)
    scale = _scale(height, width, options) * rng.uniform(low, high)
    scale = min(scale, most_rows, most_columns)  # one pixel has room
    bottom = min(height, int(most_rows / scale))
    right = min(width, int(most_columns / scale))
    return _moved(rng, height, width, _resized(0, 0, bottom, right, scale))


def grid_tiles(height: int, width: int, tile: int) -> list[View]:
    """Return as few tiles as cover an image, at even distances; they overlap where they must.

    A side that is shorter than a tile is not enlarged.
    """
    rows, columns = min(height, tile), min(width, tile)
    return [
        View(left, top, left + columns, top + rows, rows, columns)
        for top in _even_starts(height, tile)
        for left in _even_starts(width, tile)
    ]


def padded_shape(height: int, width: int, options: ViewOptions) -> tuple[int, int]:
    """Return the static height and width of the examples that an image is trained in.

    There are two at most, one for each orientation; a square image counts as landscape.
    """
    if options.tile:
        return padded(options.tile), padded(options.tile)
    short, long = padded(options.short_side), padded(options.long_side)
    return (short, long) if height <= width else (long, short)


def smallest_shape(views: Iterable[View]) -> tuple[int, int]:
    """Return the smallest padded height and width that hold all views."""
    sizes = np.array([(view.height, view.width) for view in views])
    return padded(int(sizes[:, 0].max())), padded(int(sizes[:, 1].max()))


def padded(side: int) -> int:
    """Return the next multiple of 32."""
    return -(-side // _PAD_MULTIPLE) * _PAD_MULTIPLE


def _scale(height: int, width: int, options: ViewOptions) -> float:
    if options.tile:
        return 1.0
    return min(options.short_side / min(height, width), options.long_side / max(height, width))


def _resized(left: int, top: int, bottom: int, right: int, scale: float) -> View:
    height, width = round((bottom - top) * scale), round((right - left) * scale)
    return View(left, top, right, bottom, max(1, height), max(1, width))


def _moved(rng: np.random.Generator, height: int, width: int, view: View) -> View:
    """Return a view at a random place of an image; `view` starts in the upper left corner."""
    top = int(rng.integers(height - view.bottom + 1))
    left = int(rng.integers(width - view.right + 1))
    return View(left, top, left + view.right, top + view.bottom, view.height, view.width)


def _even_starts(side: int, tile: int) -> list[int]:
    count = -(-side // tile)
    return [round(index * (side - tile) / max(1, count - 1)) for index in range(count)]
