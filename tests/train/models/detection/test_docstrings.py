"""The examples in the docstrings of the detection modules."""

import doctest

import pytest

from train.models.detection import anchors, boxes, nms, roi_align


@pytest.mark.parametrize("module", [anchors, boxes, nms, roi_align])
def test_docstring_examples(module):
    failed, attempted = doctest.testmod(module)
    assert attempted
    assert failed == 0
