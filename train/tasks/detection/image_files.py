"""The objects that a trained detector finds in image files."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image, UnidentifiedImageError

from train.data.detection.annotations import Objects, encode_mask
from train.data.detection.batch import DetectionBatch
from train.data.detection.example import make_example
from train.data.detection.load import view_options
from train.data.detection.loaded_image import LoadedImage
from train.data.detection.views import View, padded, whole_view
from train.data.streaming import decoding
from train.errors import UserError, describe_error, short_repr
from train.tasks.detection.drawing import Picture, draw_picture
from train.tasks.detection.paste import paste_mask
from train.tasks.task import Task

_NO_OBJECTS = Objects(
    np.zeros((0, 4)), np.zeros(0, np.int32), np.zeros(0, np.bool_), []
)  # of an image that is only looked at


class Found(NamedTuple):
    """The objects in an image, by decreasing score.

    Attributes:
      image: The image in RGB, rotated as its EXIF data says if the run's images are.
      boxes: float, (objects, 4); x1, y1, x2, y2 in pixels of the image.
      classes: int, (objects,).
      scores: float, (objects,), in 0..1.
      masks: bool, (objects, height, width); None for a network without masks.
    """

    image: Image.Image
    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    masks: np.ndarray | None


def find(
    task: Task, params: Any, stats: Any, config: ConfigDict, files: Sequence[Path]
) -> Iterator[tuple[Path, Found]]:
    """Yield each file and what is found in it with at least `config.eval.score_threshold`.

    Images are resized as in the test split. Those whose padded size is the same share a compiled
    program.

    Args:
      task: The task of a detector.
      params: Its parameters.
      stats: Its running statistics.
      config: The config of its run.
      files: Image files.

    Raises:
      UserError: If a file cannot be read.
    """
    options = view_options(config)
    predict = jax.jit(task.predict)
    for file in files:
        image = read(file, config.data.exif_orientation)
        view = whole_view(image.height, image.width, options)
        shape = padded(view.height), padded(view.width)
        loaded = LoadedImage(0, image, _NO_OBJECTS, [])
        example = make_example(loaded, view, shape, options)
        batch = DetectionBatch(*(np.asarray(field)[None] for field in example))
        outputs = jax.device_get(predict(params, stats, batch))
        yield file, _select(outputs.predictions, image, view, config.eval.score_threshold)


def read(file: Path, exif_orientation: bool) -> Image.Image:
    """Return an image in RGB.

    Raises:
      UserError: If it cannot be read.
    """
    try:
        with Image.open(file) as opened:
            transposition = decoding.orientation(opened) if exif_orientation else None
            image = decoding.to_rgb(opened)
        return image if transposition is None else image.transpose(transposition)
    except Exception as error:  # Pillow raises many types for damaged files
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "its format is unknown" if unknown else describe_error(error)
        raise UserError(
            f"{short_repr(str(file))} is not an image that can be read: {reason}; leave it out"
        ) from error


def to_json(file: Path, found: Found, class_names: Sequence[str]) -> str:
    """Return a line of JSON; boxes and masks are as in COCO's format of results."""
    objects = []
    for row, (x1, y1, x2, y2) in enumerate(found.boxes.tolist()):
        each: dict[str, Any] = {
            "class": class_names[found.classes[row]],
            "score": float(found.scores[row]),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
        }
        if found.masks is not None:
            counts = encode_mask(found.masks[row]).decode()
            size = [found.image.height, found.image.width]
            each["segmentation"] = {"size": size, "counts": counts}
        objects.append(each)
    return json.dumps({"file": str(file), "objects": objects}, ensure_ascii=False)


def to_rows(file: Path, found: Found, class_names: Sequence[str]) -> list[str]:
    """Return a line for each object: the file, the class, the score and the corners of its box."""
    if not len(found.boxes):
        return [f"{file}  nothing found"]
    return [
        f"{file}  {class_names[label]} {score:.3f}  {' '.join(f'{value:.1f}' for value in box)}"
        for label, score, box in zip(found.classes, found.scores, found.boxes, strict=True)
    ]


def draw(file: Path, found: Found, class_names: Sequence[str], folder: Path) -> Path:
    """Draw the objects over the image, as `NAME.png` in a folder; return the path."""
    picture = Picture(
        np.asarray(found.image), file.name, found.boxes, found.classes, found.scores, found.masks
    )
    folder.mkdir(parents=True, exist_ok=True)
    drawn = folder / f"{file.stem}.png"
    draw_picture(picture, class_names).save(drawn)
    return drawn


def _select(predictions: Any, image: Image.Image, view: View, threshold: float) -> Found:
    """Return the detections in a batch of one image, in pixels of the image."""
    chosen = (predictions.classes[0] >= 0) & (predictions.scores[0] >= threshold)
    scale = np.tile([image.width / view.width, image.height / view.height], 2)
    boxes = predictions.boxes[0][chosen] * scale[None]
    masks = None
    if predictions.masks.shape[-1]:
        cells = predictions.masks[0][chosen].astype(np.float32)
        pasted = [
            paste_mask(mask, box, image.height, image.width)
            for mask, box in zip(cells, boxes, strict=True)
        ]
        masks = np.array(pasted, np.bool_).reshape(-1, image.height, image.width)
    return Found(image, boxes, predictions.classes[0][chosen], predictions.scores[0][chosen], masks)
