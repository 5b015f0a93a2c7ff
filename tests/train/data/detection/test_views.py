"""Sizes and places of views: resizing, tiles and jitter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.data.detection.example import to_view
from train.data.detection.views import (
    View,
    ViewOptions,
    grid_tiles,
    padded_shape,
    random_view,
    smallest_shape,
    whole_view,
)

SIDE = st.integers(1, 3000)
RECIPE = ViewOptions(short_side=800, long_side=1333)


@given(SIDE, SIDE)
def test_whole_view_fits_and_keeps_the_aspect_ratio(height, width):
    view = whole_view(height, width, RECIPE)
    shape = padded_shape(height, width, RECIPE)
    assert shape in ((800, 1344), (1344, 800))
    assert view[:4] == (0, 0, width, height)
    assert view.height <= shape[0]
    assert view.width <= shape[1]
    assert max(view.height, view.width) <= 1333
    assert min(view.height, view.width) <= 800
    # One of the two sides is reached.
    assert max(view.height, view.width) == 1333 or min(view.height, view.width) == 800
    scale = min(800 / min(height, width), 1333 / max(height, width))
    assert abs(view.height - height * scale) <= 1
    assert abs(view.width - width * scale) <= 1


@pytest.mark.parametrize(
    ("size", "resized"),
    [((480, 640), (800, 1067)), ((640, 480), (1067, 800)), ((200, 640), (417, 1333))],
)
def test_sizes_of_the_recipe(size, resized):
    assert whole_view(*size, RECIPE)[4:] == resized


@given(SIDE, SIDE, st.integers(16, 500))
def test_tiles_cover_the_image(height, width, tile):
    tiles = grid_tiles(height, width, tile)
    rows, columns = np.zeros(height, bool), np.zeros(width, bool)
    for view in tiles:
        assert 0 <= view.left < view.right <= width
        assert 0 <= view.top < view.bottom <= height
        assert (view.height, view.width) == (min(height, tile), min(width, tile))
        assert (view.bottom - view.top, view.right - view.left) == (view.height, view.width)
        rows[view.top : view.bottom] = True
        columns[view.left : view.right] = True
    assert rows.all()
    assert columns.all()
    assert len(tiles) == -(-height // tile) * -(-width // tile)


@given(SIDE, SIDE, st.integers(0, 2**32), st.sampled_from([(1.0, 1.0), (0.1, 2.0), (2.0, 5.0)]))
def test_random_views_are_inside(height, width, seed, jitter):
    rng = np.random.default_rng(seed)
    for options in (RECIPE._replace(scale_jitter=jitter), RECIPE._replace(tile=128)):
        view = random_view(rng, height, width, options)
        shape = padded_shape(height, width, options)
        assert 0 <= view.left < view.right <= width
        assert 0 <= view.top < view.bottom <= height
        assert 1 <= view.height <= shape[0]
        assert 1 <= view.width <= shape[1]


def test_jitter_changes_the_scale():
    rng = np.random.default_rng(0)
    options = RECIPE._replace(scale_jitter=(0.5, 1.5))
    views = [random_view(rng, 480, 640, options) for _ in range(200)]
    scales = np.array([view.height / (view.bottom - view.top) for view in views]) / (800 / 480)
    assert 0.49 < scales.min() < 0.55
    assert 1.45 < scales.max() < 1.51
    assert len({(view.left, view.top) for view in views}) > 50


@given(SIDE, SIDE, st.integers(0, 99))
def test_boxes_in_a_view_and_back(height, width, seed):
    view = random_view(
        np.random.default_rng(seed), height, width, RECIPE._replace(scale_jitter=(0.5, 2.0))
    )
    edges = np.array([view[:4]], float)
    np.testing.assert_allclose(to_view(edges, view), [[0, 0, view.width, view.height]], atol=1e-9)


def test_smallest_shape():
    views = [View(0, 0, 9, 9, 33, 10), View(0, 0, 9, 9, 20, 64)]
    assert smallest_shape(views) == (64, 64)
