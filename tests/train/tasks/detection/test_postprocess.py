"""Detections: thresholds, NMS by class, fixed numbers, masks of the right class."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.detecting import make_batch, tiny
from train.models.detection import rcnn
from train.models.detection.rpn import Proposed
from train.tasks.detection.postprocess import make_predict, select

SETTINGS = tiny(masks=False)
SIZE = jnp.array([40, 60])


def logits_of(probabilities):
    """Return logits with a row of class probabilities each; the rest is the background."""
    probabilities = np.asarray(probabilities)
    rest = 1 - probabilities.sum(1, keepdims=True)
    return jnp.asarray(np.log(np.concatenate([probabilities, rest], 1)), jnp.float32)


def run(boxes, probabilities, settings=SETTINGS, scores=None, deltas=None):
    boxes = jnp.asarray(boxes, jnp.float32)
    count = len(boxes)
    scores = jnp.zeros(count) if scores is None else jnp.asarray(scores)
    deltas = jnp.zeros((count, 2, 4)) if deltas is None else deltas
    probabilities = logits_of(probabilities)
    return select(settings, probabilities, deltas, Proposed(boxes, scores), SIZE)


def test_classes_and_scores():
    boxes = [[0, 0, 10, 10], [1, 0, 11, 10], [30, 5, 50, 35]]
    found = run(boxes, [[0.6, 0.3], [0.7, 0.04], [0.01, 0.9]])
    # The first box is suppressed in class 0 and kept in class 1; 0.04 is below the threshold.
    assert found.classes.tolist() == [1, 0, 1, -1, -1]
    np.testing.assert_allclose(found.scores, [0.9, 0.7, 0.3, 0, 0], rtol=1e-5)
    assert found.boxes.tolist() == [*boxes[::-1], [0] * 4, [0] * 4]


def test_boxes_are_moved_by_the_deltas_of_their_class_and_clipped():
    deltas = jnp.zeros((1, 2, 4)).at[0, 1, 0].set(10).at[0, 0].set(jnp.nan)
    found = run([[30, 20, 50, 40]], [[0.5, 0.4]], deltas=deltas)
    assert found.classes.tolist() == [1, -1, -1, -1, -1], "NaN is no box"
    assert found.boxes[0].tolist() == [50, 20, 60, 40], "moved by the width, cut at 60"


def test_padding_of_proposals_is_dropped():
    found = run([[0, 0, 9, 9], [20, 0, 29, 9]], [[0.9, 0.05], [0.8, 0.1]], scores=[-np.inf, 1])
    assert found.classes.tolist() == [0, 1, -1, -1, -1]


def test_no_detections():
    found = run([[0, 0, 10, 10]], [[0.01, 0.02]])
    assert found.classes.tolist() == [-1] * 5
    assert not found.scores.any()
    assert not found.boxes.any()


def test_more_boxes_than_the_limit():
    boxes = [
        [12 * index % 48, 12 * (index // 4), 12 * index % 48 + 10, 12 * (index // 4) + 10]
        for index in range(12)
    ]
    probabilities = [[0.2 + 0.05 * index, 0.01] for index in range(12)]
    found = run(boxes, probabilities)
    assert found.boxes.tolist() == [boxes[index] for index in (11, 10, 9, 8, 7)]
    few = dataclasses.replace(SETTINGS, test_candidates=3)
    assert run(boxes, probabilities, few).classes.tolist() == [0, 0, 0, -1, -1]


@pytest.mark.parametrize("masks", [False, True])
def test_predictions_of_padded_images(masks):
    detector = rcnn.make(tiny(masks, score_threshold=0.0))
    batch = make_batch(3)._replace(sizes=jnp.array([[32, 32], [20, 32], [32, 12]]))
    found = jax.jit(make_predict(detector))(*detector.init(jax.random.key(0)), batch)
    assert (found.classes >= 0).any(1).all()
    side = 14 if masks else 0
    assert found.masks.shape == (3, 5, side, side)
    for boxes, (height, width) in zip(found.boxes, batch.sizes.tolist(), strict=True):
        assert (boxes >= 0).all()
        assert boxes[:, 2].max() <= width
        assert boxes[:, 3].max() <= height
