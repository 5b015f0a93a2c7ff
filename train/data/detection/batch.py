"""The batch of one step of object detection."""

from typing import NamedTuple

import jax


class DetectionBatch(NamedTuple):
    """The examples of one step; all arrays have the batch as first axis.

    Attributes:
      inputs: uint8 images (batch, height, width, 3), padded at the bottom and right with zeros.
      sizes: int32, (batch, 2); the height and width of each image without the padding.
      boxes: float32, (batch, max_objects, 4); x1, y1, x2 and y2 in pixels of the padded image.
        They are half-open and continuous, as in COCO: x2 is x1 + width.
      classes: int32, (batch, max_objects); 0 to num_classes - 1, or -1 where there is no object.
      crowd: bool, (batch, max_objects); regions of many objects, which are neither positive nor
        negative.
      masks: uint8, (batch, max_objects, M, M); the mask of each object, cropped to its box and
        resampled. M is 0 without masks.
      ids: int32, (batch,); the index of each image in its split.
      mask: bool, (batch,); False for examples that only fill up a batch.
    """

    inputs: jax.Array
    sizes: jax.Array
    boxes: jax.Array
    classes: jax.Array
    crowd: jax.Array
    masks: jax.Array
    ids: jax.Array
    mask: jax.Array
