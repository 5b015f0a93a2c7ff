"""The examples in docstrings."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["flip", "shape_groups", "views"])
def test_examples_pass(name):
    module = importlib.import_module(f"train.data.detection.{name}")
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed
