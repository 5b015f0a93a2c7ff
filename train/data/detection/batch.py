"""The batch of one step of detection."""

from typing import Any, NamedTuple


class DetectionBatch(NamedTuple):
    """Images and their objects; each field has one more axis in front than in an example.

    The boxes have the continuous coordinates of COCO: a box from x1 to x2 covers the pixels x1 to
    x2 - 1, so x2 is x1 plus the width.

    Attributes:
      inputs: uint8, (batch, height, width, 3); padded with zeros at the bottom and on the right.
      sizes: int32, (batch, 2); the height and the width of each image without the padding.
      boxes: float32, (batch, max_objects, 4); x1, y1, x2, y2 in pixels of the padded image.
      classes: int32, (batch, max_objects); -1 where there is no object.
      crowd: bool, (batch, max_objects); True for regions that are neither positive nor negative,
        such as many objects in one box, or an object of which the image shows little.
      masks: uint8, (batch, max_objects, mask_size, mask_size); 1 where the object covers its box,
        which is resampled to that size. The mask size is 0 without masks.
      ids: int32, (batch,); the index of the image in its split.
      mask: bool, (batch,); False for the padding of an evaluation batch.
    """

    inputs: Any
    sizes: Any
    boxes: Any
    classes: Any
    crowd: Any
    masks: Any
    ids: Any
    mask: Any
