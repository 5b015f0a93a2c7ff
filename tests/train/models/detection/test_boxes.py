"""Boxes and anchors: overlaps, deltas, clipping, and the grid of anchors."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.models.detection import boxes as box_ops
from train.models.detection.anchors import inside, level_anchors

coordinates = st.tuples(*[st.integers(0, 60)] * 4).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)


def raster(box):
    image = np.zeros((60, 60), bool)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = True
    return image


@given(coordinates, coordinates)
@settings(max_examples=50, deadline=None)
def test_overlaps_count_pixels(a, b):
    first, second = raster(a), raster(b)
    both, either = np.sum(first & second), np.sum(first | second)
    arrays = jnp.array([a], jnp.float32), jnp.array([b], jnp.float32)
    assert box_ops.areas(arrays[0])[0] == first.sum()
    assert box_ops.intersections(*arrays)[0, 0] == both
    assert box_ops.iou(*arrays)[0, 0] == pytest.approx(both / either if either else 0)
    share = box_ops.intersection_over_area(*arrays)[0, 0]
    assert share == pytest.approx(both / first.sum() if first.any() else 0)


def test_decode_inverts_encode():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (2, 100, 2))
    boxes, anchors = np.concatenate([corners, corners + rng.uniform(1, 50, (2, 100, 2))], -1)
    weights = (10.0, 10.0, 5.0, 5.0)
    deltas = box_ops.encode(jnp.asarray(boxes), jnp.asarray(anchors), weights)
    np.testing.assert_allclose(
        box_ops.decode(deltas, jnp.asarray(anchors), weights), boxes, atol=1e-3
    )


def test_encode_by_hand():
    deltas = box_ops.encode(jnp.array([[10.0, 20, 30, 60]]), jnp.array([[0.0, 0, 10, 20]]))
    np.testing.assert_allclose(deltas, [[1.5, 1.5, np.log(2), np.log(2)]], rtol=1e-6)
    padding = box_ops.encode(jnp.zeros((1, 4)), jnp.zeros((1, 4)))
    assert np.isfinite(padding).all()


def test_decoded_sides_are_limited():
    decoded = box_ops.decode(jnp.full((1, 4), 50.0), jnp.array([[0.0, 0, 16, 16]]))
    np.testing.assert_allclose(decoded[0, 2:] - decoded[0, :2], 1000, rtol=1e-5)


def test_clip_uses_height_for_y():
    clipped = box_ops.clip(jnp.array([[-5.0, -5, 90, 90]]), jnp.array([30, 70]))
    assert clipped.tolist() == [[0, 0, 70, 30]]


def test_anchors_of_coco():
    """Five levels of a 1344x800 image have 268,569 anchors, each of the area of its size."""
    total = 0
    for level, size in enumerate((32, 64, 128, 256, 512)):
        stride = 4 * 2**level
        shape = (-(-800 // stride), -(-1344 // stride))
        anchors = level_anchors(shape, stride, size, (0.5, 1.0, 2.0))
        total += len(anchors)
        np.testing.assert_allclose(box_ops.areas(jnp.asarray(anchors)), size**2, rtol=1e-3)
    assert total == 268_569
    height, width = anchors[2, 3] - anchors[2, 1], anchors[2, 2] - anchors[2, 0]
    assert height / width == pytest.approx(2)


def test_anchors_follow_the_order_of_cells():
    anchors = level_anchors((2, 3), 8, 8, (1.0, 0.25)).reshape(2, 3, 2, 4)
    assert anchors[1, 2, 0].tolist() == [16, 8, 24, 16]
    assert anchors[1, 2, 1].tolist() == [12, 10, 28, 14]


def test_anchors_of_the_padding_are_not_used():
    anchors = jnp.asarray(level_anchors((4, 4), 8, 12, (1.0,)))
    size = jnp.array([32, 20])
    used = np.asarray(inside(anchors, size, None)).reshape(4, 4)
    assert used.all(0).tolist() == [True, True, False, False]
    used = np.asarray(inside(anchors, size, 0)).reshape(4, 4)
    assert used.sum() == 2
    assert used[1:3, 1].all(), "the others cross the border of the image"
    np.testing.assert_array_equal(inside(anchors, size, 99), inside(anchors, size, None))
