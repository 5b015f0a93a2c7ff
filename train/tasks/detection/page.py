"""A page of images with what a network found in them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from train.data.detection.batch import DetectionBatch
from train.tasks.detection.drawing import Picture, draw_page
from train.tasks.detection.paste import paste_mask
from train.tasks.detection.predictions import Predictions


def draw(
    file: Path,
    predictions: Predictions,
    examples: DetectionBatch,
    class_names: Sequence[str],
    score_threshold: float,
    columns: int,
) -> None:
    """Write a page of images with their detections.

    Args:
      file: The file to write.
      predictions: The detections in the images of a split, or in more.
      examples: Images of the same split.
      class_names: The names of the classes.
      score_threshold: The smallest score of a detection that is drawn.
      columns: The number of images in a row.
    """
    rows = {int(image_id): row for row, image_id in enumerate(predictions.ids)}
    pictures = [
        make_picture(
            examples.inputs[index],
            examples.sizes[index],
            predictions,
            rows[int(image_id)],
            f"image {image_id}",
            score_threshold,
        )
        for index, image_id in enumerate(examples.ids)
        if examples.mask[index]
    ]
    draw_page(file, pictures, class_names, columns)


def make_picture(
    pixels: np.ndarray,
    size: np.ndarray,
    predictions: Predictions,
    row: int,
    title: str,
    score_threshold: float,
) -> Picture:
    """Return an image with its detections.

    Args:
      pixels: uint8, (height, width, 3); padded.
      size: The height and the width without the padding.
      predictions: The detections in several images.
      row: The row of the image among them.
      title: A line above the image.
      score_threshold: The smallest score of a detection that is drawn.
    """
    height, width = size.tolist()
    chosen = (predictions.classes[row] >= 0) & (predictions.scores[row] >= score_threshold)
    boxes, masks = predictions.boxes[row][chosen], None
    if predictions.masks is not None and predictions.masks.shape[-1]:
        cells = predictions.masks[row][chosen].astype(np.float32)
        pasted = [
            paste_mask(mask, box, height, width) for mask, box in zip(cells, boxes, strict=True)
        ]
        masks = np.array(pasted).reshape(-1, height, width)
    return Picture(
        pixels[:height, :width],
        title,
        boxes,
        predictions.classes[row][chosen],
        predictions.scores[row][chosen],
        masks,
    )
