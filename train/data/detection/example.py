"""One example: a view of an image, padded to a static shape, with its objects."""

import jax
import numpy as np
from jax.sharding import NamedSharding
from PIL import Image

from train.data.detection.batch import DetectionBatch
from train.data.detection.flip import flip_boxes
from train.data.detection.loaded_image import LoadedImage, VisibleObjects, visible_objects
from train.data.detection.views import View, ViewOptions


def make_example(
    loaded: LoadedImage,
    view: View,
    shape: tuple[int, int],
    options: ViewOptions,
    flipped: bool = False,
) -> DetectionBatch:
    """Return a view of an image as an example: the fields have no batch axis.

    Of more than `options.max_objects` objects, the largest are kept, and crowds only if there is
    room. The background then has objects that are not learned, so choose it large enough.

    Args:
      loaded: The image.
      view: What is shown of it.
      shape: The height and the width of the padded result.
      options: The number of objects and the size of their masks.
      flipped: Whether the view is flipped horizontally.
    """
    box = view.left, view.top, view.right, view.bottom
    resized = loaded.image.resize((view.width, view.height), Image.Resampling.BILINEAR, box)
    pixels = np.asarray(resized)
    objects = visible_objects(loaded.objects, loaded.masks, view)
    objects = _largest(objects, options.max_objects)
    masks = _resample_masks(objects, options.mask_size)
    boxes = to_view(objects.boxes, view)
    if flipped:
        pixels, masks = pixels[:, ::-1], masks[:, :, ::-1]
        boxes = flip_boxes(boxes, np.float64(view.width))
    padding = options.max_objects - len(boxes)
    return DetectionBatch(
        inputs=np.pad(pixels, ((0, shape[0] - view.height), (0, shape[1] - view.width), (0, 0))),
        sizes=np.array([view.height, view.width], np.int32),
        boxes=np.pad(boxes.astype(np.float32), ((0, padding), (0, 0))),
        classes=np.pad(objects.classes, (0, padding), constant_values=-1),
        crowd=np.pad(objects.crowd, (0, padding)),
        masks=np.pad(masks, ((0, padding), (0, 0), (0, 0))),
        ids=np.int32(loaded.image_id),
        mask=np.True_,
    )


def empty_example(shape: tuple[int, int], options: ViewOptions) -> DetectionBatch:
    """Return the padding of an evaluation batch: a black image without objects."""
    number, side = options.max_objects, options.mask_size
    return DetectionBatch(
        inputs=np.zeros((*shape, 3), np.uint8),
        sizes=np.array(shape, np.int32),
        boxes=np.zeros((number, 4), np.float32),
        classes=np.full(number, -1, np.int32),
        crowd=np.zeros(number, np.bool_),
        masks=np.zeros((number, side, side), np.uint8),
        ids=np.int32(0),
        mask=np.False_,
    )


def abstract_batch(
    batch_size: int, shape: tuple[int, int], options: ViewOptions, sharding: NamedSharding
) -> DetectionBatch:
    """Return a batch of `jax.ShapeDtypeStruct`s to compile with.

    Args:
      batch_size: The number of examples.
      shape: The height and the width of the padded images.
      options: The number of objects and the size of their masks.
      sharding: The sharding of the batch axis.
    """
    example = empty_example(shape, options)
    return jax.tree.map(
        lambda array: jax.ShapeDtypeStruct(
            (batch_size, *array.shape), array.dtype, sharding=sharding
        ),
        example,
    )


def to_view(boxes: np.ndarray, view: View) -> np.ndarray:
    """Return boxes (objects, 4) of an image in the pixels of a view of it."""
    scale = view.width / (view.right - view.left), view.height / (view.bottom - view.top)
    return (boxes - np.tile([view.left, view.top], 2)[None]) * np.tile(scale, 2)[None]


def _resample_masks(objects: VisibleObjects, side: int) -> np.ndarray:
    masks: np.ndarray = np.zeros((len(objects.boxes), side, side), np.uint8)
    for row, mask in enumerate(objects.masks):
        masks[row] = mask.resample(objects.boxes[row], side)
    return masks


def _largest(objects: VisibleObjects, limit: int) -> VisibleObjects:
    """Return the largest objects in their order; crowds come last."""
    if len(objects.classes) <= limit:
        return objects
    boxes = objects.boxes
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    ranked = np.lexsort((-areas, objects.crowd))
    return objects.select(np.sort(ranked[:limit]))
