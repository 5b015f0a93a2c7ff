"""Examples: objects, masks and pixels of a view belong together."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from train.data.detection import annotations as columns
from train.data.detection.annotations import Objects, encode_mask
from train.data.detection.example import empty_example, make_example
from train.data.detection.loaded_image import load_image, visible_objects
from train.data.detection.local_mask import LocalMask, local_mask
from train.data.detection.source import StoredImages
from train.data.detection.views import View, ViewOptions, whole_view

HEIGHT, WIDTH = 40, 60


def ellipse(x1, y1, x2, y2):
    """Return the mask of an ellipse in a box."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    across, down = (2 * x - x1 - x2) / (x2 - x1), (2 * y - y1 - y2) / (y2 - y1)
    return across**2 + down**2 <= 1


def split_of(boxes, crowd=None):
    """Return a split of one black image with white ellipses."""
    masks = [ellipse(*box) for box in boxes]
    pixels = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    for mask in masks:
        pixels[0, mask] = 255
    objects = Objects(
        np.array(boxes, float).reshape(-1, 4),
        np.arange(len(boxes), dtype=np.int32),
        np.array(crowd or [False] * len(boxes), bool),
        [encode_mask(mask) for mask in masks],
    )
    areas = [np.array([mask.sum() for mask in masks], float)]
    annotations = columns.from_images([(HEIGHT, WIDTH)], [objects], areas)
    return StoredImages(pixels, annotations, tuple(map(str, range(len(boxes)))))


def example(split, view, **options):
    options = ViewOptions(**{"max_objects": 4, "mask_size": 16, **options})
    return make_example(load_image(split, 0, options.mask_size), view, (64, 96), options)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 30), st.integers(0, 20), st.integers(6, 30), st.integers(6, 20))
def test_box_of_a_mask_is_the_box(x, y, width, height):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y : y + height, x : x + width] = True
    box = np.array([x, y, x + width, y + height], float)
    local = local_mask(encode_mask(mask), HEIGHT, WIDTH, box, 1.0)
    np.testing.assert_array_equal(local.tight_box(), box)
    assert local.area() == width * height
    assert local.resample(box, 16).sum() >= 16 * 16 - 4  # interpolation may take the corners


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 99), st.integers(3, 40))
def test_local_mask_is_resampled_like_the_whole(seed, side):
    rng = np.random.default_rng(seed)
    x1, x2 = np.sort(rng.uniform(0, WIDTH, 2))
    y1, y2 = np.sort(rng.uniform(0, HEIGHT, 2))
    box = np.array([x1, y1, max(x2, x1 + 0.5), max(y2, y1 + 0.5)]).clip(
        0, [WIDTH, HEIGHT, WIDTH, HEIGHT]
    )
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    inside = (x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])
    mask = inside & (rng.random((HEIGHT, WIDTH)) < 0.8)
    scale = (box[2:] - box[:2]).max() / side
    local = local_mask(encode_mask(mask), HEIGHT, WIDTH, box, scale)
    whole = LocalMask(0, 0, mask.astype(np.uint8))
    different = local.resample(box, side) != whole.resample(box, side)
    assert different.sum() <= 1 + side**2 // 200  # the other origin rounds the box elsewhere


@settings(deadline=None, max_examples=30)
@given(st.integers(32, 64), st.floats(0.5, 1.5))
def test_objects_are_where_the_pixels_are(short_side, ratio):
    """The box of the white pixels of a resized image is the resized box."""
    split = split_of([(10, 8, 34, 30)])
    options = ViewOptions(short_side, int(short_side * ratio) + 1)
    view = whole_view(HEIGHT, WIDTH, options)
    result = example(split, view)
    white = result.inputs[..., 0] >= 128
    rows, across = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
    found = [across[0], rows[0], across[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(result.boxes[0], found, atol=1.5)
    assert not result.inputs[view.height :].any()
    assert not result.inputs[:, view.width :].any()
    assert result.sizes.tolist() == [view.height, view.width]
    # The mask, put back into its box, is the white region.
    x1, y1, x2, y2 = np.round(result.boxes[0]).astype(int)
    pasted = Image.fromarray(result.masks[0] * 255).resize((x2 - x1, y2 - y1), Image.BILINEAR)
    inside = np.asarray(pasted) >= 128
    assert (inside == white[y1:y2, x1:x2]).mean() > 0.85  # a small ellipse is mostly edge


def test_fields_and_padding():
    split = split_of([(10, 8, 34, 30), (40, 20, 50, 30)])
    result = example(split, whole_view(HEIGHT, WIDTH, ViewOptions(40, 60)))
    assert result.inputs.shape == (64, 96, 3)
    assert result.classes.tolist() == [0, 1, -1, -1]
    assert not result.boxes[2:].any()
    assert not result.masks[2:].any()
    assert result.mask
    padding = empty_example((64, 96), ViewOptions(max_objects=4, mask_size=16))
    assert [(np.shape(a), a.dtype) for a in padding] == [(np.shape(a), a.dtype) for a in result]
    assert not padding.mask
    assert (padding.classes == -1).all()


def test_without_masks():
    split = split_of([(10, 8, 34, 30)])
    result = example(split, whole_view(HEIGHT, WIDTH, ViewOptions(40, 60)), mask_size=0)
    assert result.masks.shape == (4, 0, 0)


def test_image_without_objects():
    result = example(split_of([]), whole_view(HEIGHT, WIDTH, ViewOptions(40, 60)))
    assert (result.classes == -1).all()


def test_largest_objects_are_kept_in_order():
    boxes = [(0, 0, 8, 8), (0, 10, 20, 30), (20, 0, 50, 30), (50, 30, 60, 40)]
    split = split_of(boxes, crowd=[False, False, True, False])
    view = whole_view(HEIGHT, WIDTH, ViewOptions(40, 60))
    assert example(split, view, max_objects=2).classes.tolist() == [1, 3]
    assert example(split, view, max_objects=3).classes.tolist() == [0, 1, 3]


def in_view(box, view, masks=True):
    loaded = load_image(split_of([box]), 0, 16)
    return visible_objects(loaded.objects, loaded.masks if masks else [], view)


def test_cut_objects():
    tile = View(0, 0, 20, 20, 20, 20)
    assert in_view((2, 2, 12, 12), tile).boxes.tolist() == [[2, 2, 12, 12]]
    assert not len(in_view((20, 2, 30, 12), tile).boxes)
    mostly_inside = in_view((12, 2, 24, 12), tile)
    assert mostly_inside.boxes.tolist() == [[12, 2, 20, 12]]
    assert not mostly_inside.crowd[0]
    mostly_outside = in_view((18, 2, 30, 12), tile)
    assert mostly_outside.crowd[0]
    # The end of an ellipse is lower than its box.
    x1, y1, x2, y2 = mostly_outside.boxes[0].tolist()
    assert (x1, x2) == (18, 20)
    assert y1 > 2
    assert y2 < 12
    assert in_view((18, 2, 30, 12), tile, masks=False).boxes.tolist() == [[18, 2, 20, 12]]


def test_corner_of_a_box_without_a_pixel_of_its_object():
    corner = View(0, 0, 11, 11, 11, 11)
    assert not len(in_view((10, 10, 30, 30), corner).boxes)
    assert in_view((10, 10, 30, 30), corner, masks=False).crowd.tolist() == [True]
