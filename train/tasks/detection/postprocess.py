"""Detections from the outputs of a detector: a fixed number for each image."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from train.data.detection.batch import DetectionBatch
from train.models.detection import boxes as box_ops
from train.models.detection import nms
from train.models.detection.rcnn import RCNN, Detector
from train.models.detection.rpn import Proposed
from train.models.detection.settings import Settings


class Detections(NamedTuple):
    """The detections of images, by decreasing score.

    Attributes:
      boxes: float32, (batch, n, 4), in pixels of the padded image; inside the image.
      scores: float32, (batch, n), in 0..1; 0 where there is no detection.
      classes: int32, (batch, n); -1 where there is no detection.
      masks: float32 probabilities, (batch, n, m, m), of the pixels of each box, divided into m x m
        cells; m is 0 without masks.
    """

    boxes: jax.Array
    scores: jax.Array
    classes: jax.Array
    masks: jax.Array


def make_predict(detector: Detector) -> Callable[[Any, Any, DetectionBatch], Detections]:
    """Return `(params, stats, batch) -> Detections`; the inputs of the batch are standardized."""

    def predict(params: Any, stats: Any, batch: DetectionBatch) -> Detections:
        return detector.apply(params, stats, lambda net: detect(net, batch.inputs, batch.sizes))[0]

    return predict


def detect(net: RCNN, images: jax.Array, sizes: jax.Array) -> Detections:
    """Return the detections of a network.

    Args:
      net: The network.
      images: float32, standardized, (batch, height, width, 3).
      sizes: The heights and widths of the images without their padding, (batch, 2).
    """
    s = net.settings
    pyramid = net.pyramid(images, train=False)
    proposed = net.propose(*net.rpn(pyramid), net.anchors(pyramid), sizes, s.test_proposals)
    logits, deltas = net.classify(pyramid, proposed.boxes)
    found = jax.vmap(lambda *image: select(s, *image))(logits, deltas, proposed, sizes)
    if not s.masks:
        return found
    probabilities = jax.nn.sigmoid(net.masks(pyramid, found.boxes))
    classes = jnp.maximum(found.classes, 0)[:, :, None, None, None]
    masks = jnp.take_along_axis(probabilities, classes, 4)[..., 0]
    return found._replace(masks=masks)


def select(
    s: Settings, logits: jax.Array, deltas: jax.Array, proposed: Proposed, size: jax.Array
) -> Detections:
    """Return the detections of one image, without masks.

    The pairs of a proposal and a class with the highest scores are candidates, and NMS is applied
    to each class. If at least `max_detections` candidates are kept, further candidates would change
    nothing.

    Args:
      s: The hyperparameters.
      logits: (n, classes + 1).
      deltas: (n, classes, 4).
      proposed: The proposals.
      size: The height and width of the image, (2,).
    """
    num_classes = deltas.shape[1]
    scores = jax.nn.softmax(logits)[:, :-1]
    usable = (proposed.scores > -jnp.inf)[:, None] & (scores >= s.score_threshold)
    flat = jnp.where(usable, scores, -jnp.inf).reshape(-1)
    scores, order = jax.lax.top_k(flat, min(s.test_candidates, len(flat)))
    proposals, classes = proposed.boxes[order // num_classes], order % num_classes
    moved = box_ops.decode(deltas.reshape(-1, 4)[order], proposals, s.box_weights)
    boxes = box_ops.clip(moved, size)
    valid = nms.is_valid(boxes, scores) & (box_ops.areas(boxes) > 0)
    kept = nms.nms_sorted(boxes, valid, s.test_nms_threshold, classes)
    missing = max(0, s.max_detections - len(scores))
    scores = jnp.pad(jnp.where(kept, scores, -jnp.inf), (0, missing), constant_values=-jnp.inf)
    scores, best = jax.lax.top_k(scores, s.max_detections)
    found, best = scores > -jnp.inf, jnp.minimum(best, len(order) - 1)
    return Detections(
        jnp.where(found[:, None], boxes[best], 0),
        jnp.where(found, scores, 0),
        jnp.where(found, classes[best], -1),
        jnp.zeros((s.max_detections, 0, 0)),
    )
