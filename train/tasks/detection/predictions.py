"""The detections in the images of a whole split."""

from typing import Any, NamedTuple

import numpy as np


class Predictions(NamedTuple):
    """Detections, as NumPy arrays; of D in each image, some may be empty.

    Attributes:
      boxes: float32, (images, D, 4); x1, y1, x2, y2 in pixels of the resized image.
      scores: float32, (images, D).
      classes: int32, (images, D); -1 where there is no detection.
      masks: float32, (images, D, side, side), the probability of each cell of the box to belong to
        the object; None for boxes alone.
      ids: int32, (images,); the index of each image in its split.
    """

    boxes: Any
    scores: Any
    classes: Any
    masks: Any
    ids: Any


def in_order(predictions: Predictions, num_images: int) -> Predictions:
    """Return the predictions of each image once, in the order of the split.

    Batches are padded and processes may overlap; of an image that occurs twice, the first is used.

    Raises:
      ValueError: If there are no predictions for an image.
    """
    ids, rows = np.unique(predictions.ids, return_index=True)
    if not np.array_equal(ids, np.arange(num_images)):
        missing = np.setdiff1d(np.arange(num_images), ids)
        raise ValueError(
            f"predictions must be of the {num_images} images of a split; {len(missing)} are missing"
        )
    return Predictions(*(None if array is None else array[rows] for array in predictions))
