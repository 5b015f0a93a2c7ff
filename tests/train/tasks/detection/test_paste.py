"""Masks put back into an image, against SciPy's interpolation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from train.tasks.detection.paste import paste_mask

SIDES = st.floats(-10, 40, allow_nan=False, width=32)


@settings(deadline=None, max_examples=50)
@given(st.lists(SIDES, min_size=4, max_size=4), st.integers(0, 9))
def test_equals_interpolation_at_the_centers(sides, seed):
    x1, x2 = sorted(sides[:2])
    y1, y2 = sorted(sides[2:])
    if x2 - x1 < 0.1 or y2 - y1 < 0.1:
        return
    mask = np.random.default_rng(seed).uniform(0, 1, (7, 7)).astype(np.float32)
    rows = (np.arange(24) + 0.5 - y1) / (y2 - y1) * 7 - 0.5
    columns = (np.arange(30) + 0.5 - x1) / (x2 - x1) * 7 - 0.5
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    values = ndimage.map_coordinates(mask, places, order=1, mode="grid-constant")
    pasted = paste_mask(mask, np.array([x1, y1, x2, y2]), 24, 30)
    clear = np.abs(values - 0.5) > 1e-4
    np.testing.assert_array_equal(pasted[clear], (values >= 0.5)[clear])


@pytest.mark.parametrize("box", [(-5, -5, 0, 0), (30, 0, 40, 10), (3, 4, 3, 4)])
def test_box_without_pixels(box):
    assert not paste_mask(np.ones((28, 28), np.float32), np.array(box, float), 20, 30).any()


def test_full_mask_fills_its_box():
    pasted = paste_mask(np.ones((28, 28), np.float32), np.array([2.0, 3, 12, 9]), 20, 30)
    expected = np.zeros((20, 30), bool)
    expected[3:9, 2:12] = True
    np.testing.assert_array_equal(pasted, expected)
