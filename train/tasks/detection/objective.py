"""The training loss of a detector: one pure function of its parameters and a batch."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from train.data.detection.batch import DetectionBatch
from train.models.detection import boxes as box_ops
from train.models.detection.anchors import inside
from train.models.detection.rcnn import RCNN, Detector
from train.models.detection.rpn import Proposed
from train.models.detection.settings import Settings
from train.tasks.detection import losses
from train.tasks.detection.matching import Objects, match
from train.tasks.detection.sampling import Sample, sample
from train.tasks.detection.targets import mask_targets
from train.tasks.task import MetricSums

METRICS = ("loss", "rpn_class_loss", "rpn_box_loss", "class_loss", "box_loss")
"""The names of the sums, without that of `examples`; and "mask_loss" with masks."""

_RPN, _BOXES = 0, 1  # folded into the key of an image

Terms = dict[str, jax.Array]
"""The terms of the loss of each image, (batch,)."""


def metrics(settings: Settings) -> tuple[str, ...]:
    """Return the names of the sums of the loss; the first is "loss"."""
    return (*METRICS, "mask_loss") if settings.masks else METRICS


def make_loss(
    detector: Detector,
) -> Callable[[Any, Any, DetectionBatch, jax.Array], tuple[jax.Array, tuple[Any, MetricSums]]]:
    """Return `(params, stats, batch, key) -> (loss, (stats, sums))`.

    The loss is the mean over the images that are not padding, and the sums are those of `metrics`.
    The inputs of the batch must be standardized. The loss of an image depends only on the image,
    its id and the key, unless batch normalization uses the statistics of the batch.
    """

    def loss(
        params: Any, stats: Any, batch: DetectionBatch, key: jax.Array
    ) -> tuple[jax.Array, tuple[Any, MetricSums]]:
        terms, stats = detector.apply(params, stats, lambda net: image_losses(net, batch, key))
        weight = batch.mask.astype(jnp.float32)
        sums = {"examples": jnp.sum(weight), "loss": jnp.zeros(())}
        for name, values in terms.items():
            sums[name] = jnp.sum(jnp.where(batch.mask, values, 0))
            sums["loss"] += sums[name]
        return sums["loss"] / jnp.maximum(sums["examples"], 1), (stats, sums)

    return loss


def image_losses(net: RCNN, batch: DetectionBatch, key: jax.Array) -> Terms:
    """Return the terms of the loss of each image.

    Args:
      net: The network.
      batch: A batch with standardized inputs.
      key: The key of the step.
    """
    s = net.settings
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch.ids)
    objects = Objects(batch.boxes, batch.classes, batch.crowd)
    pyramid = net.pyramid(batch.inputs, train=True)
    logits, deltas = net.rpn(pyramid)
    anchors = net.anchors(pyramid)
    terms = _rpn_losses(s, logits, deltas, anchors, batch.sizes, objects, keys)
    proposed = net.propose(logits, deltas, anchors, batch.sizes, s.train_proposals)
    boxes, owners, samples = jax.vmap(lambda *image: _sample_boxes(s, *image))(
        proposed, objects, keys
    )
    class_logits, class_deltas = net.classify(pyramid, boxes)
    terms |= jax.vmap(lambda *image: _box_losses(s, *image))(
        class_logits, class_deltas, boxes, owners, objects, samples
    )
    if s.masks:
        first = s.box_sampling.max_positive
        boxes, owners, positive = boxes[:, :first], owners[:, :first], samples.positive[:, :first]
        terms["mask_loss"] = jax.vmap(_mask_loss)(
            net.masks(pyramid, boxes), batch.masks, boxes, owners, objects, positive
        )
    return terms


def _rpn_losses(
    s: Settings,
    logits: Sequence[jax.Array],
    deltas: Sequence[jax.Array],
    anchors: Sequence[jax.Array],
    sizes: jax.Array,
    objects: Objects,
    keys: jax.Array,
) -> Terms:
    all_anchors = jnp.concatenate(anchors)

    def of_image(
        logits: jax.Array, deltas: jax.Array, size: jax.Array, objects: Objects, key: jax.Array
    ) -> Terms:
        usable = inside(all_anchors, size, s.anchor_border)
        matches = match(all_anchors, usable, objects, s.rpn_matching)
        chosen = sample(jax.random.fold_in(key, _RPN), matches, s.rpn_sampling)
        targets = box_ops.encode(
            objects.boxes[matches.objects[chosen.indices]], all_anchors[chosen.indices]
        )
        return {
            "rpn_class_loss": losses.objectness(logits[chosen.indices], chosen),
            "rpn_box_loss": losses.regression(deltas[chosen.indices], targets, chosen, s.rpn_beta),
        }

    joined = jnp.concatenate(logits, 1), jnp.concatenate(deltas, 1)
    return jax.vmap(of_image)(*joined, sizes, objects, keys)


def _sample_boxes(
    s: Settings, proposed: Proposed, objects: Objects, key: jax.Array
) -> tuple[jax.Array, jax.Array, Sample]:
    """Return sampled proposals and objects of an image, and the index of the object of each."""
    real = (objects.classes >= 0) & ~objects.crowd
    boxes = jnp.concatenate([objects.boxes, proposed.boxes])
    usable = jnp.concatenate([real, proposed.scores > -jnp.inf])
    matches = match(boxes, usable, objects, s.box_matching)
    chosen = sample(jax.random.fold_in(key, _BOXES), matches, s.box_sampling)
    return boxes[chosen.indices], matches.objects[chosen.indices], chosen


def _box_losses(
    s: Settings,
    logits: jax.Array,
    deltas: jax.Array,
    boxes: jax.Array,
    owners: jax.Array,
    objects: Objects,
    chosen: Sample,
) -> Terms:
    classes = jnp.maximum(objects.classes[owners], 0)
    of_class = jnp.take_along_axis(deltas, classes[:, None, None], 1)[:, 0]
    targets = box_ops.encode(objects.boxes[owners], boxes, s.box_weights)
    return {
        "class_loss": losses.classification(logits, classes, chosen),
        "box_loss": losses.regression(of_class, targets, chosen, s.box_beta),
    }


def _mask_loss(
    logits: jax.Array,
    masks: jax.Array,
    boxes: jax.Array,
    owners: jax.Array,
    objects: Objects,
    positive: jax.Array,
) -> jax.Array:
    classes = jnp.maximum(objects.classes[owners], 0)
    of_class = jnp.take_along_axis(logits, classes[:, None, None, None], 3)[..., 0]
    targets = mask_targets(masks[owners], objects.boxes[owners], boxes, logits.shape[1])
    return losses.masks(of_class, targets, positive)
