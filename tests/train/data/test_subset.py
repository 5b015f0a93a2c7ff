"""Subsets of a data set: the examples, the labels and the error messages."""

import numpy as np
import pytest

from train import data
from train.config import default_config, validate
from train.data.in_memory import digits
from train.errors import UserError


def load(**fields):
    config = default_config()
    config.data.update(fields)
    validate(config)
    return data.load(config)


def test_classes_select_and_relabel():
    full, subset = digits.load(), load(classes=(7, 2))
    assert subset.num_classes == 2
    for all_, selected in ((full.train, subset.train), (full.test, subset.test)):
        ids = np.flatnonzero((all_.labels == 7) | (all_.labels == 2))
        np.testing.assert_array_equal(selected.inputs, all_.inputs[ids])
        np.testing.assert_array_equal(selected.labels, np.where(all_.labels[ids] == 7, 0, 1))
        assert selected.labels.dtype == np.int32
    assert subset.class_names == ("7", "2")


def test_train_per_class():
    whole, few, others = load(), load(train_per_class=4), load(train_per_class=4, train_draw=1)
    assert np.bincount(few.train.labels).tolist() == [4] * 10
    assert few.num_test == whole.num_test
    known = {image.tobytes(): label for image, label in zip(*whole.train, strict=True)}
    for image, label in zip(*few.train, strict=True):
        assert known[image.tobytes()] == label
    np.testing.assert_array_equal(few.train.inputs, load(train_per_class=4).train.inputs)
    assert not np.array_equal(few.train.inputs, others.train.inputs)


def test_larger_subset_contains_smaller():
    few, more = load(train_per_class=3), load(train_per_class=5)
    assert {i.tobytes() for i in few.train.inputs} < {i.tobytes() for i in more.train.inputs}


def test_describe_counts_the_subset():
    config = default_config()
    config.data.update(classes=(5, 6, 7), train_per_class=2)
    assert data.describe(config) == (3, (8, 8, 1), 6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": (3, 10)}, "config.data.classes=(3, 10) is not allowed; use classes"),
        ({"classes": (3, 3)}, "from 0 to 9, each at most once"),
        ({"classes": (-1,)}, "config.data.classes=(-1,)"),
        ({"classes": ("3",)}, "config.data.classes=('3',)"),
        (
            {"train_per_class": 1000},
            "training examples of the smallest class of digits; use at most",
        ),
        ({"train_per_class": -1}, "config.data.train_per_class=-1 is not allowed"),
        ({"classes": (3, 4), "image_size": 32}, "are for images on the device"),
    ],
)
def test_invalid_subset_is_rejected(fields, message):
    with pytest.raises(UserError) as error:
        load(**fields)
    assert message in str(error.value)
