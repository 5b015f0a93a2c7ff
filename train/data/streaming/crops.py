"""From an encoded image of any size to pixels of one size, on the host."""

import io
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

_RATIOS = (3 / 4, 4 / 3)  # width to height of a random crop
_TRIES = 10
_TEST_SHARE = 224 / 256  # of the shorter side; of ImageNet's 256 pixels, 224 are kept

_KEPT_TO_RESIZE = 2  # with fewer pixels to each of the result, a sharp image gets softer


class Box(NamedTuple):
    """A part of an image, in pixels from its upper left corner."""

    left: float
    top: float
    right: float
    bottom: float


def train_image(
    content: bytes,
    rng: np.random.Generator,
    image_size: int,
    scale: tuple[float, float] | tuple[()],
) -> np.ndarray:
    """A random resized crop, or the middle.

    Args:
      content: a JPEG or PNG file, of any size and mode.
      rng: where the randomness comes from.
      image_size: height and width of the result, in pixels.
      scale: the least and the largest share of the image's area that a crop has; empty for the
        middle, as `test_image` has it.

    Returns:
      uint8, (image_size, image_size, 3).

    Raises:
      Exception: of whatever type Pillow raises for a file that is no image.
    """
    if not scale:
        return test_image(content, image_size)
    return _pixels(content, image_size, lambda w, h: random_box(rng, w, h, scale))


def test_image(content: bytes, image_size: int) -> np.ndarray:
    """The middle: as if the shorter side were resized to `image_size * 256 / 224` and cropped.

    Returns:
      uint8, (image_size, image_size, 3).

    Raises:
      Exception: as `train_image`.
    """
    return _pixels(content, image_size, centre_box)


def random_box(
    rng: np.random.Generator, width: int, height: int, scale: tuple[float, float]
) -> Box:
    """A box of random area, shape and place, in whole pixels.

    The share of the area is uniform in `scale`, the ratio of width to height log-uniform in
    3/4..4/3. If ten such boxes are no part of the image it is the largest in the middle whose ratio
    is allowed.

    References:
      Szegedy et al., Going deeper with convolutions, CVPR 2015, section 6.
    """
    low, high = map(math.log, _RATIOS)
    for _ in range(_TRIES):
        area = width * height * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(low, high))
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = int(rng.integers(width - box_width + 1))
            top = int(rng.integers(height - box_height + 1))
            return Box(left, top, left + box_width, top + box_height)
    least, largest = _RATIOS
    return _in_the_middle(width, height, min(width, height * largest), min(height, width / least))


def centre_box(width: int, height: int) -> Box:
    """A square in the middle, of 224/256 of the shorter side."""
    side = min(width, height) * _TEST_SHARE
    return _in_the_middle(width, height, side, side)


def _in_the_middle(width: int, height: int, box_width: float, box_height: float) -> Box:
    left, top = (width - box_width) / 2, (height - box_height) / 2
    return Box(left, top, left + box_width, top + box_height)


def _pixels(content: bytes, image_size: int, choose: Callable[[int, int], Box]) -> np.ndarray:
    """The part that `choose(width, height)` names, resized with antialiasing."""
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
        box = choose(width, height)
        _decode_no_more_than_needed(image, box, image_size)
        across, down = image.width / width, image.height / height
        resized = _rgb(image).resize(
            (image_size, image_size),
            Image.Resampling.BILINEAR,
            (box.left * across, box.top * down, box.right * across, box.bottom * down),
        )
        # Flipped by Pillow: NumPy copies rows of mirrored pixels ten times slower.
        return np.asarray(resized)


def _decode_no_more_than_needed(image: Image.Image, box: Box, image_size: int) -> None:
    """Lets a large JPEG be decoded at 1/2, 1/4 or 1/8 of its size, which is many times faster."""
    spare = min(box.right - box.left, box.bottom - box.top) / (image_size * _KEPT_TO_RESIZE)
    if spare >= 2:
        image.draft(None, (math.ceil(image.width / spare), math.ceil(image.height / spare)))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"pixels of mode {image.mode}, and not of 8 bits")
    if "transparency" in image.info:
        image = image.convert("RGBA")  # without which Pillow warns
    return image.convert("RGB")
