"""Crops of encoded images: decoded and resized to square pixel arrays on the host."""

import io
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from train.data.streaming import decoding

_RATIO_RANGE = (3 / 4, 4 / 3)  # width / height of a random crop
_MAX_TRIES = 10
_CENTER_SHARE = 224 / 256  # of the shorter side; for ImageNet, 224 of 256 pixels are kept

_MIN_OVERSAMPLING = 2  # with fewer source pixels per output pixel, a sharp image becomes blurred


class Box(NamedTuple):
    """A rectangle in an image, in pixels from the upper left corner."""

    left: float
    top: float
    right: float
    bottom: float


def random_resized_crop(
    content: bytes,
    rng: np.random.Generator,
    image_size: int,
    scale: tuple[float, float] | tuple[()],
    exif_orientation: bool = True,
) -> np.ndarray:
    """Decode an image, crop it at random and resize the crop.

    Args:
      content: An image file, of any size and mode.
      rng: The source of the randomness.
      image_size: The height and width of the result, in pixels.
      scale: The smallest and the largest share of the image's area in a crop. If empty, the crop is
        that of `center_crop`.
      exif_orientation: See `center_crop`.

    Returns:
      uint8, (image_size, image_size, 3).

    Raises:
      Exception: If the file is not an image; Pillow raises many types.
    """
    if not scale:
        return center_crop(content, image_size, exif_orientation)
    return _crop(content, image_size, lambda w, h: random_box(rng, w, h, scale), exif_orientation)


def center_crop(content: bytes, image_size: int, exif_orientation: bool = True) -> np.ndarray:
    """Decode an image, crop its center and resize the crop.

    The result is that of resizing the shorter side to `image_size * 256 / 224` pixels and then
    cropping `image_size` pixels.

    Args:
      content: An image file, of any size and mode.
      image_size: The height and width of the result, in pixels.
      exif_orientation: Whether to rotate and flip the image as its EXIF data says.

    Returns:
      uint8, (image_size, image_size, 3).

    Raises:
      Exception: If the file is not an image; Pillow raises many types.
    """
    return _crop(content, image_size, center_box, exif_orientation)


def random_box(
    rng: np.random.Generator, width: int, height: int, scale: tuple[float, float]
) -> Box:
    """Return a box of random area, aspect ratio and position, in whole pixels.

    The share of the area is uniform in `scale`; the ratio of width to height is log-uniform in
    3/4..4/3. If ten such boxes do not fit in the image, the box is the largest one at the center
    with an allowed ratio.

    References:
      Szegedy et al., Going deeper with convolutions, CVPR 2015, section 6.
    """
    low, high = map(math.log, _RATIO_RANGE)
    for _ in range(_MAX_TRIES):
        area = width * height * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(low, high))
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = int(rng.integers(width - box_width + 1))
            top = int(rng.integers(height - box_height + 1))
            return Box(left, top, left + box_width, top + box_height)
    smallest, largest = _RATIO_RANGE
    return _centered(width, height, min(width, height * largest), min(height, width / smallest))


def center_box(width: int, height: int) -> Box:
    """Return a square at the center, with 224/256 of the shorter side."""
    side = min(width, height) * _CENTER_SHARE
    return _centered(width, height, side, side)


def _centered(width: int, height: int, box_width: float, box_height: float) -> Box:
    left, top = (width - box_width) / 2, (height - box_height) / 2
    return Box(left, top, left + box_width, top + box_height)


def _crop(
    content: bytes,
    image_size: int,
    choose_box: Callable[[int, int], Box],
    exif_orientation: bool,
) -> np.ndarray:
    """Return the box `choose_box(width, height)` of an image, resized with antialiasing."""
    with Image.open(io.BytesIO(content)) as image:
        transposition = decoding.orientation(image) if exif_orientation else None
        width, height = decoding.oriented_size(image, transposition)
        box = choose_box(width, height)
        _set_draft_size(image, box, image_size)
        pixels = decoding.to_rgb(image)
    if transposition is not None:
        pixels = pixels.transpose(transposition)
    x_scale, y_scale = pixels.width / width, pixels.height / height
    resized = pixels.resize(
        (image_size, image_size),
        Image.Resampling.BILINEAR,
        (box.left * x_scale, box.top * y_scale, box.right * x_scale, box.bottom * y_scale),
    )
    return np.asarray(resized)


def _set_draft_size(image: Image.Image, box: Box, image_size: int) -> None:
    """Let a large JPEG be decoded at 1/2, 1/4 or 1/8 of its size, which is many times faster."""
    factor = min(box.right - box.left, box.bottom - box.top) / (image_size * _MIN_OVERSAMPLING)
    if factor >= 2:
        image.draft(None, (math.ceil(image.width / factor), math.ceil(image.height / factor)))
