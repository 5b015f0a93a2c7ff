"""Handwritten digits of several sizes on noisy canvases, with boxes and masks; no download."""

import functools
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from train.data.dataset import Split
from train.data.decoded_cache import cached
from train.data.detection import annotations as columns
from train.data.detection.annotations import Annotations, Objects, encode_mask
from train.data.detection.source import StoredImages
from train.data.in_memory import digits

SIDE = 64
"""The height and width of a canvas, in pixels."""

MAX_DIGITS = 5
"""The largest number of digits on a canvas; the smallest is 1."""

_NUM_CANVASES = {"train": 2000, "test": 200}
_DIGIT_SIDES = 12, 29  # the smallest, and the one after the largest
_INK = 0.35  # the intensity from which a pixel belongs to the digit
_MAX_OVERLAP = 0.15  # of the smaller one of two digits
_VERSION = 2  # of the cached canvases; increase it when they change


class Canvas(NamedTuple):
    """An image of digits.

    Attributes:
      pixels: uint8, (64, 64).
      labels: int32, (digits,).
      masks: bool, (digits, 64, 64); they do not overlap.
    """

    pixels: np.ndarray
    labels: np.ndarray
    masks: np.ndarray


def open_splits() -> tuple[StoredImages, StoredImages]:
    """Return 2,000 training and 200 test canvases, always the same, without common digits."""
    source = digits.load()
    return _open("train", source.train), _open("test", source.test)


def make_canvas(rng: np.random.Generator, source: Split) -> Canvas:
    """Return a canvas with 1 to 5 random digits of `source`.

    A digit is drawn over those before it. If it covered too much of one, it is left out.
    """
    canvas = rng.normal(60, 20, (SIDE, SIDE))
    labels: list[int] = []
    masks: list[np.ndarray] = []
    for _ in range(rng.integers(1, MAX_DIGITS + 1)):
        index, side = rng.integers(len(source.labels)), int(rng.integers(*_DIGIT_SIDES))
        digit = Image.fromarray(source.inputs[index, :, :, 0]).resize(
            (side, side), Image.Resampling.BILINEAR
        )
        ink = np.asarray(digit) / 255
        top, left = rng.integers(0, SIDE - side + 1, 2)
        place = slice(top, top + side), slice(left, left + side)
        mask = np.zeros((SIDE, SIDE), np.bool_)
        mask[place] = ink > _INK
        if any(_overlap(mask, other) > _MAX_OVERLAP for other in masks):
            continue
        masks = [other & ~mask for other in masks]
        canvas[place] += ink * (rng.uniform(150, 255) - canvas[place])
        masks.append(mask)
        labels.append(source.labels[index])
    pixels = np.clip(canvas, 0, 255).astype(np.uint8)
    return Canvas(pixels, np.array(labels, np.int32), np.array(masks))


class _Stored(NamedTuple):
    """Canvases in the form in which they are cached: `annotations` is flat."""

    pixels: np.ndarray
    sizes: np.ndarray
    starts: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    mask_starts: np.ndarray
    mask_bytes: np.ndarray


def _open(name: str, source: Split) -> StoredImages:
    content = f"digits on canvases {_VERSION}, {name}, {source.fingerprint()['sha256']}"
    stored = cached(_Stored, content, [], functools.partial(_make, name, source))
    pixels = np.broadcast_to(stored.pixels[..., None], (*stored.pixels.shape, 3))
    return StoredImages(np.ascontiguousarray(pixels), Annotations(*stored[1:]), tuple("0123456789"))


def _make(name: str, source: Split) -> _Stored:
    rng = np.random.Generator(np.random.Philox(key=list(_NUM_CANVASES).index(name)))
    canvases = [make_canvas(rng, source) for _ in range(_NUM_CANVASES[name])]
    annotations = columns.from_images(
        [(SIDE, SIDE)] * len(canvases),
        [_objects(canvas) for canvas in canvases],
        [canvas.masks.sum((1, 2)) for canvas in canvases],
    )
    return _Stored(np.array([canvas.pixels for canvas in canvases]), *annotations)


def _objects(canvas: Canvas) -> Objects:
    across: Any = canvas.masks.any(1)
    down: Any = canvas.masks.any(2)
    sides = [across.argmax(1), down.argmax(1)]
    sides += [SIDE - across[:, ::-1].argmax(1), SIDE - down[:, ::-1].argmax(1)]
    return Objects(
        boxes=np.stack(sides, axis=1).astype(np.float64),
        classes=canvas.labels,
        crowd=np.zeros(len(canvas.labels), np.bool_),
        masks=[encode_mask(mask) for mask in canvas.masks],
    )


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    return (first & second).sum() / max(1, min(first.sum(), second.sum()))
