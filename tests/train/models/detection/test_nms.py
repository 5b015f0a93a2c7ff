"""Non-maximum suppression, compared with that of ONNX Runtime and with a loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.models.detection.nms import nms

jitted = jax.jit(nms, static_argnums=2)


def random_boxes(rng, count, side=100, largest=40):
    corners = rng.uniform(0, side, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(1, largest, (count, 2))], 1).astype(
        np.float32
    )


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7])
def test_2000_boxes_match_onnxruntime(threshold):
    oracle = pytest.importorskip("tests.support.onnx_oracle", exc_type=ImportError)
    rng = np.random.default_rng(0)
    boxes, scores = random_boxes(rng, 2000), rng.random(2000, np.float32)
    expected = oracle.nms(boxes, scores, threshold)
    assert 10 < expected.sum() < 1990
    np.testing.assert_array_equal(jitted(boxes, scores, threshold), expected)


# Few values, so that boxes and scores are often equal, and overlaps often equal the threshold.
few_boxes = st.lists(
    st.tuples(*[st.integers(0, 6)] * 2, *[st.integers(1, 4)] * 2, st.integers(0, 3)),
    min_size=12,
    max_size=12,
)


def unpack(values):
    array = np.array(values, np.float32)
    return np.concatenate([array[:, :2], array[:, :2] + array[:, 2:4]], 1), array[:, 4]


@given(few_boxes, st.sampled_from([0.25, 0.5, 0.75]))
@settings(max_examples=150, deadline=None)
def test_equal_scores_match_onnxruntime(values, threshold):
    oracle = pytest.importorskip("tests.support.onnx_oracle", exc_type=ImportError)
    boxes, scores = unpack(values)
    expected = oracle.nms(boxes, scores, threshold)
    np.testing.assert_array_equal(jitted(boxes, scores, threshold), expected)


def greedy(boxes, scores, threshold):
    """Return the indices of the boxes that the greedy algorithm keeps."""
    kept = []
    for index in np.argsort(-scores, kind="stable"):
        overlaps = [pixel_iou(boxes[index], boxes[other]) for other in kept]
        if all(overlap <= threshold for overlap in overlaps):
            kept.append(index)
    return sorted(kept)


def pixel_iou(a, b):
    images = np.zeros((2, 12, 12), bool)
    for image, (x1, y1, x2, y2) in zip(images, (a, b), strict=True):
        image[int(y1) : int(y2), int(x1) : int(x2)] = True
    return (images[0] & images[1]).sum() / (images[0] | images[1]).sum()


@given(few_boxes, st.sampled_from([0.25, 0.5, 0.75]))
@settings(max_examples=50, deadline=None)
def test_matches_the_greedy_loop(values, threshold):
    boxes, scores = unpack(values)
    assert np.flatnonzero(jitted(boxes, scores, threshold)).tolist() == greedy(
        boxes, scores, threshold
    )


def test_groups_do_not_suppress_each_other():
    rng = np.random.default_rng(1)
    boxes, scores = random_boxes(rng, 200), rng.random(200, np.float32)
    groups = rng.integers(0, 3, 200)
    kept = np.asarray(jitted(boxes, scores, 0.3, groups))
    for group in range(3):
        members = groups == group
        alone = jitted(boxes, np.where(members, scores, -np.inf), 0.3)
        np.testing.assert_array_equal(kept & members, alone)
    assert kept.sum() > np.sum(jitted(boxes, scores, 0.3))


def test_long_chain_converges():
    """Each box overlaps its neighbors, so that every second one is kept."""
    starts = np.arange(64, dtype=np.float32)
    boxes = np.stack([starts, 0 * starts, starts + 3, 0 * starts + 1], 1)
    kept = jitted(boxes, -starts, 0.3)  # neighbors overlap by 1/2, the ones after by 1/5
    assert np.flatnonzero(kept).tolist() == list(range(0, 64, 2))


def test_invalid_boxes_are_dropped_and_suppress_nothing():
    boxes = np.array([[0, 0, 9, 9]] * 5, np.float32)
    boxes[0, 2], boxes[1, 0] = np.nan, -np.inf
    scores = np.array([0.9, 0.8, np.nan, -np.inf, 0.1], np.float32)
    assert jitted(boxes, scores, 0.5).tolist() == [False, False, False, False, True]
    assert not jitted(boxes, np.full(5, np.nan, np.float32), 0.5).any()


def test_batches():
    rng = np.random.default_rng(2)
    boxes = np.stack([random_boxes(rng, 50) for _ in range(3)])
    scores = rng.random((3, 50), np.float32)
    batched = jax.vmap(functools.partial(nms, threshold=0.3))(jnp.asarray(boxes), scores)
    for kept, *image in zip(batched, boxes, scores, strict=True):
        np.testing.assert_array_equal(kept, jitted(*image, 0.3))
