"""Small images with rectangles, to train a detector on."""

import jax.numpy as jnp
import numpy as np

from train.data.detection.batch import DetectionBatch
from train.models.detection import settings

SIDE, MAX_OBJECTS, MASK_SIDE, CLASSES = 32, 3, 8, 2


def tiny(masks=True, **changes):
    """Return the settings of a detector that compiles fast."""
    sampling = {
        "rpn_sampling": settings.Sampling(32, 0.5),
        "box_sampling": settings.Sampling(16, 0.5),
        "train_proposals": settings.Proposals(16, 16),
        "test_proposals": settings.Proposals(16, 16),
    }
    sizes = {"features": 16, "box_head_width": 32, "mask_head_convs": 1, "max_detections": 5}
    return settings.small(CLASSES, masks, **(sampling | sizes | changes))


def make_batch(count, seed=0):
    """Return images with one to three rectangles: class 0 is bright, class 1 is dark.

    The masks are the upper halves of the rectangles.
    """
    rng = np.random.default_rng(seed)
    images = rng.normal(0, 0.1, (count, SIDE, SIDE, 3))
    boxes = np.zeros((count, MAX_OBJECTS, 4))
    classes = np.full((count, MAX_OBJECTS), -1)
    for image in range(count):
        for index in range(rng.integers(1, MAX_OBJECTS + 1)):
            width, height = rng.integers(8, 16, 2)
            x = int(rng.integers(0, SIDE - width))
            y = int(rng.integers(0, SIDE - height))
            label = int(rng.integers(CLASSES))
            images[image, y : y + height, x : x + width] = 2 - 4 * label
            boxes[image, index] = x, y, x + width, y + height
            classes[image, index] = label
    masks = np.zeros((count, MAX_OBJECTS, MASK_SIDE, MASK_SIDE))
    masks[:, :, : MASK_SIDE // 2] = 1
    return DetectionBatch(
        jnp.asarray(images, jnp.float32),
        jnp.full((count, 2), SIDE),
        jnp.asarray(boxes, jnp.float32),
        jnp.asarray(classes, jnp.int32),
        jnp.zeros((count, MAX_OBJECTS), bool),
        jnp.asarray(masks, jnp.uint8),
        jnp.arange(count),
        jnp.ones(count, bool),
    )
