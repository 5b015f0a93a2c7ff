"""Pictures of images with their objects: boxes, classes, scores and masks."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

# Okabe and Ito's colors, which differ for the color-blind too; they repeat after eight classes.
_COLORS = (
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
    "#FFFFFF",
)
_MIN_SIDE = 480  # smaller images are enlarged by a whole number, so that texts fit
_FONT_SIZE = 14
_MASK_OPACITY = 0.4
_GAP = 8
_BACKGROUND = "#FFFFFF"
_TEXT = "#000000"
_MAX_LABELED = 40  # labels of more objects would hide the image


class Picture(NamedTuple):
    """What is drawn over an image.

    Attributes:
      pixels: uint8, (height, width, 3).
      title: A line above the image.
      boxes: (objects, 4); x1, y1, x2, y2 in pixels of the image.
      classes: int, (objects,).
      scores: float, (objects,); None for the objects of the ground truth.
      masks: bool, (objects, height, width); None for boxes alone.
    """

    pixels: np.ndarray
    title: str
    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray | None = None
    masks: np.ndarray | None = None


def draw_picture(picture: Picture, class_names: Sequence[str]) -> Image.Image:
    """Return an image with its objects, those with the highest scores on top.

    Small images are enlarged. Many objects are drawn without the names of their classes, which the
    colors tell apart.
    """
    factor = max(1, -(-_MIN_SIDE // max(picture.pixels.shape)))
    image = Image.fromarray(_blend_masks(picture, factor))
    canvas = ImageDraw.Draw(image)
    scores = picture.scores
    order = range(len(picture.boxes)) if scores is None else np.argsort(scores, kind="stable")
    for row in order:
        label = int(picture.classes[row])
        box = (picture.boxes[row] * factor).tolist()
        color = _color(label)
        canvas.rectangle(
            (box[0], box[1], max(box[0], box[2] - 1), max(box[1], box[3] - 1)),
            outline=color,
            width=2,
        )
        if len(picture.boxes) <= _MAX_LABELED:
            text = (
                class_names[label] if scores is None else f"{class_names[label]} {scores[row]:.2f}"
            )
            _write_label(canvas, image.size, box, text, color)
    return _with_title(image, picture.title)


def draw_page(
    file: Path, pictures: Sequence[Picture], class_names: Sequence[str], columns: int
) -> None:
    """Write a page of pictures, row by row.

    Args:
      file: The file to write, in the format of its suffix.
      pictures: The pictures.
      class_names: The names of the classes.
      columns: The number of pictures in a row.
    """
    images = [draw_picture(picture, class_names) for picture in pictures]
    rows = [images[start : start + columns] for start in range(0, len(images), columns)]
    column_width = max(image.width for image in images) + _GAP
    width = column_width * min(columns, len(images)) + _GAP
    height = sum(max(image.height for image in row) + _GAP for row in rows) + _GAP
    page = Image.new("RGB", (width, height), _BACKGROUND)
    top = _GAP
    for row in rows:
        for column, image in enumerate(row):
            page.paste(image, (_GAP + column * column_width, top))
        top += max(image.height for image in row) + _GAP
    page.save(file)


def _blend_masks(picture: Picture, factor: int) -> np.ndarray:
    """Return the enlarged pixels with a tint of its class over each mask, and its outline."""
    pixels = _enlarge(picture.pixels, factor).astype(np.float32)
    masks = () if picture.masks is None else picture.masks
    for small_mask, label in zip(masks, picture.classes, strict=picture.masks is not None):
        mask = _enlarge(small_mask, factor)
        color = np.array(ImageColor.getrgb(_color(int(label))), np.float32)
        pixels[mask] += _MASK_OPACITY * (color - pixels[mask])
        padded = np.pad(mask, 1)
        inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        pixels[mask & ~inside] = color
    return np.round(pixels).astype(np.uint8)


def _enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def _write_label(
    canvas: ImageDraw.ImageDraw, size: tuple[int, int], box: list[float], text: str, color: str
) -> None:
    """Write a text above a box, or inside it at the upper edge of the image."""
    left, top, right, bottom = canvas.textbbox((0, 0), text, font=_font())
    width, height = right - left + 4, bottom - top + 4
    x = min(max(box[0], 0), max(0, size[0] - width))
    y = box[1] - height if box[1] >= height else box[1]
    canvas.rectangle((x, y, x + width, y + height), fill=color)
    ink = _TEXT if sum(ImageColor.getrgb(color)) > 330 else _BACKGROUND
    canvas.text((x + 2 - left, y + 2 - top), text, fill=ink, font=_font())


def _with_title(image: Image.Image, title: str) -> Image.Image:
    line = _FONT_SIZE + 8
    titled = Image.new("RGB", (image.width, image.height + line), _BACKGROUND)
    titled.paste(image, (0, line))
    ImageDraw.Draw(titled).text((2, 2), title, fill=_TEXT, font=_font())
    return titled


def _color(label: int) -> str:
    return _COLORS[label % len(_COLORS)]


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    """Return the font that comes with Matplotlib, which has letters of most languages."""
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", _FONT_SIZE)
