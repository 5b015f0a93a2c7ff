"""Horizontal flips on the device: what must not change, and that the stream flips the same way."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.data.detection import digits_detection
from train.data.detection.batch import DetectionBatch
from train.data.detection.example import make_example
from train.data.detection.flip import flip, flip_boxes, random_flip
from train.data.detection.loaded_image import load_image
from train.data.detection.views import ViewOptions, padded_shape, whole_view

HEIGHT, WIDTH, OBJECTS, SIDE = 5, 9, 3, 4
device_flip = jax.jit(flip)


def make_batch(seed, widths):
    """Return random images that are black right of their widths, with objects inside."""
    rng = np.random.default_rng(seed)
    widths = np.array(widths)
    number = len(widths)
    inputs = rng.integers(1, 256, (number, HEIGHT, WIDTH, 3), np.uint8)
    inputs *= (np.arange(WIDTH) < widths[:, None])[:, None, :, None].astype(np.uint8)
    x = np.sort(rng.uniform(0, widths[:, None, None], (number, OBJECTS, 2)))
    y = np.sort(rng.uniform(0, HEIGHT, (number, OBJECTS, 2)))
    classes = rng.integers(-1, 2, (number, OBJECTS)).astype(np.int32)
    boxes = np.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], -1).astype(np.float32)
    boxes[classes < 0] = 0
    return DetectionBatch(
        inputs=jnp.array(inputs),
        sizes=jnp.array(np.stack([np.full(number, HEIGHT), widths], 1), jnp.int32),
        boxes=jnp.array(boxes),
        classes=jnp.array(classes),
        crowd=jnp.zeros((number, OBJECTS), bool),
        masks=jnp.array(rng.integers(0, 2, (number, OBJECTS, SIDE, SIDE), np.uint8)),
        ids=jnp.arange(number),
        mask=jnp.ones(number, bool),
    )


WIDTHS = st.lists(st.integers(1, WIDTH), min_size=4, max_size=4)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 99), WIDTHS)
def test_twice_is_the_identity(seed, widths):
    batch = make_batch(seed, widths)
    flipped = jnp.array([True, True, False, True])
    twice = device_flip(device_flip(batch, flipped), flipped)
    chex.assert_trees_all_close(twice, batch, atol=1e-5)
    chex.assert_trees_all_equal(twice._replace(boxes=0), batch._replace(boxes=0))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 99), WIDTHS)
def test_flips_within_the_image(seed, widths):
    batch = make_batch(seed, widths)
    result = device_flip(batch, jnp.array([True, False, True, True]))
    for index, width in enumerate(widths):
        image, flipped = batch.inputs[index], result.inputs[index]
        if index == 1:
            np.testing.assert_array_equal(flipped, image)
            continue
        np.testing.assert_array_equal(flipped[:, :width], image[:, :width][:, ::-1])
        assert not flipped[:, width:].any()
        for place in np.flatnonzero(batch.classes[index] >= 0):
            x1, y1, x2, y2 = np.asarray(batch.boxes[index, place])
            expected = [width - x2, y1, width - x1, y2]
            np.testing.assert_allclose(result.boxes[index, place], expected, atol=1e-5)
    assert not result.boxes[result.classes < 0].any()


def test_random_flip_flips_half():
    batch = make_batch(0, [WIDTH] * 400)
    result = jax.jit(random_flip)(jax.random.key(0), batch)
    flipped = np.any(result.inputs != batch.inputs, axis=(1, 2, 3))
    assert 150 < flipped.sum() < 250


def test_box_shows_the_same_pixels():
    """A box around a mark is around the mark after the flip."""
    image = np.zeros((HEIGHT, WIDTH), np.uint8)
    image[1:3, 2:7] = 1
    x1, y1, x2, y2 = flip_boxes(np.array([2.0, 1, 7, 3]), float(WIDTH)).astype(int)
    assert image[:, ::-1][y1:y2, x1:x2].all()
    assert image.sum() == (x2 - x1) * (y2 - y1)


@pytest.mark.parametrize("index", range(3))
def test_host_and_device_agree(index):
    images = digits_detection.open_splits()[1]
    options = ViewOptions(40, 60, max_objects=6, mask_size=14)
    view, shape = whole_view(64, 64, options), padded_shape(64, 64, options)
    assert view.width < shape[1]
    loaded = load_image(images, index, 14)
    plain, expected = (make_example(loaded, view, shape, options, flip) for flip in (False, True))
    batch = jax.tree.map(lambda array: jnp.asarray(array)[None], plain)
    result = jax.tree.map(lambda array: array[0], device_flip(batch, jnp.array([True])))
    chex.assert_trees_all_close(result, expected, atol=1e-4)
