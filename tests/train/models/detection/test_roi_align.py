"""ROIAlign: both implementations, compared with ONNX Runtime, by hand and by finite differences."""

import functools

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from train.models.detection import boxes as box_ops
from train.models.detection import roi_align

METHODS = [roi_align.multiply, roi_align.gather]
STRIDES = (4, 8, 16)


def random_boxes(rng, count, height, width):
    points = rng.uniform(-20, [width + 20, height + 20], (count, 2, 2))
    boxes = np.concatenate([points.min(1), points.max(1)], 1).astype(np.float32)
    return np.array(box_ops.clip(jnp.asarray(boxes), jnp.array([height, width])))


def random_pyramid(rng, height, width, features):
    shapes = [(height // stride, width // stride, features) for stride in STRIDES]
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [7, 14])
def test_matches_onnxruntime(method, size):
    oracle = pytest.importorskip("tests.support.onnx_oracle", exc_type=ImportError)
    rng = np.random.default_rng(size)
    features = rng.standard_normal((24, 36, 5)).astype(np.float32)
    boxes = random_boxes(rng, 64, 192, 288)
    boxes[:4] = [[0, 0, 288, 192], [0, 0, 3, 3], [280, 180, 288, 192], [96, 96, 96, 96]]
    levels = jnp.zeros(64, jnp.int32)
    found = jax.jit(functools.partial(method, strides=(8,), size=size))(
        [features], boxes=boxes, levels=levels
    )
    np.testing.assert_allclose(found, oracle.roi_align(features, boxes, 8, size), atol=3e-5)


def test_linear_map_gives_the_centers_of_cells():
    """On a map whose values are its coordinates, the mean of the samples is the cell's center."""
    ys, xs = np.meshgrid(np.arange(16.0), np.arange(16.0), indexing="ij")
    pyramid = [jnp.asarray(np.stack([ys, xs], -1), jnp.float32)[None]]
    found = roi_align.roi_align(pyramid, (4,), jnp.array([[[8.0, 12, 36, 40]]]), 7)[0, 0]
    centers = (np.arange(7) + 0.5) * 4  # 28 pixels in 7 cells
    np.testing.assert_allclose(found[:, 0, 0], (12 + centers) / 4 - 0.5, rtol=1e-5)
    np.testing.assert_allclose(found[0, :, 1], (8 + centers) / 4 - 0.5, rtol=1e-5)


def test_levels_follow_the_paper():
    """A box of 224x224 belongs to the level of stride 16, one of half the side to stride 8."""
    sides = np.array([1, 56, 111, 112, 223, 224, 447, 448, 5000], np.float32)
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], 1)
    levels = roi_align.assign_levels(jnp.asarray(boxes), (4, 8, 16, 32))
    assert levels.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]


def test_methods_agree_on_a_pyramid():
    rng = np.random.default_rng(0)
    pyramid, boxes = random_pyramid(rng, 64, 96, 6), random_boxes(rng, 40, 64, 96)
    levels = roi_align.assign_levels(jnp.asarray(boxes), STRIDES, 48)
    assert set(levels.tolist()) == {0, 1, 2}
    results = [
        jax.jit(method, static_argnums=(1, 4))(pyramid, STRIDES, boxes, levels, 7)
        for method in METHODS
    ]
    np.testing.assert_allclose(*results, atol=1e-5)
    for index in (0, 17, 33):
        level = int(levels[index])
        alone = roi_align.gather(
            pyramid[level : level + 1],
            STRIDES[level : level + 1],
            boxes[index : index + 1],
            jnp.zeros(1, jnp.int32),
            7,
        )
        np.testing.assert_allclose(results[0][index], alone[0], atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_gradient_matches_finite_differences(method):
    rng = np.random.default_rng(1)
    pyramid, boxes = random_pyramid(rng, 32, 32, 2), random_boxes(rng, 6, 32, 32)
    levels = roi_align.assign_levels(jnp.asarray(boxes), STRIDES, 24)

    def loss(pyramid):
        return jnp.sum(jnp.sin(method(pyramid, STRIDES, jnp.asarray(boxes), levels, 3)))

    jax.test_util.check_grads(jax.jit(loss), (pyramid,), order=1, modes=["rev"], rtol=2e-2)


@pytest.mark.parametrize("max_cells", [0, 10_000])
def test_batch_and_gradient_of_boxes(monkeypatch, max_cells):
    monkeypatch.setattr(roi_align, "_MAX_CELLS", max_cells)
    rng = np.random.default_rng(2)
    images = [random_pyramid(rng, 32, 48, 3) for _ in range(2)]
    boxes = np.stack([random_boxes(rng, 5, 32, 48) for _ in range(2)])
    batch = [jnp.stack(maps) for maps in zip(*images, strict=True)]
    found = roi_align.roi_align(batch, STRIDES, jnp.asarray(boxes), 7)
    for index in range(2):
        levels = roi_align.assign_levels(jnp.asarray(boxes[index]), STRIDES)
        alone = roi_align.gather(images[index], STRIDES, boxes[index], levels, 7)
        np.testing.assert_allclose(found[index], alone, atol=1e-5)
    gradient = jax.grad(lambda boxes: jnp.sum(roi_align.roi_align(batch, STRIDES, boxes, 7)))
    assert not gradient(jnp.asarray(boxes)).any()
