"""A part of a data set: the right examples, with the right labels, or a refusal."""

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


def test_classes_are_kept_in_both_splits_and_counted_in_the_order_given():
    whole, part = digits.load(), load(classes=(7, 2))
    assert part.num_classes == 2
    for of_whole, of_part in ((whole.train, part.train), (whole.test, part.test)):
        ids = np.flatnonzero((of_whole.labels == 7) | (of_whole.labels == 2))
        np.testing.assert_array_equal(of_part.inputs, of_whole.inputs[ids])
        np.testing.assert_array_equal(of_part.labels, np.where(of_whole.labels[ids] == 7, 0, 1))
        assert of_part.labels.dtype == np.int32
    assert part.class_names == ("7", "2")


def test_so_many_of_each_class_are_trained_on_and_all_are_tested():
    whole, few, others = load(), load(train_per_class=4), load(train_per_class=4, train_draw=1)
    assert np.bincount(few.train.labels).tolist() == [4] * 10
    assert few.num_test == whole.num_test
    known = {image.tobytes(): label for image, label in zip(*whole.train, strict=True)}
    for image, label in zip(*few.train, strict=True):
        assert known[image.tobytes()] == label
    np.testing.assert_array_equal(few.train.inputs, load(train_per_class=4).train.inputs)
    assert not np.array_equal(few.train.inputs, others.train.inputs)


def test_more_examples_hold_those_of_fewer():
    few, more = load(train_per_class=3), load(train_per_class=5)
    assert {i.tobytes() for i in few.train.inputs} < {i.tobytes() for i in more.train.inputs}


def test_what_is_known_without_the_examples_is_of_the_part():
    config = default_config()
    config.data.update(classes=(5, 6, 7), train_per_class=2)
    assert data.describe(config) == (3, (8, 8, 1), 6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": (3, 10)}, "config.data.classes=(3, 10) is not allowed; it must be classes"),
        ({"classes": (3, 3)}, "from 0 to 9, each once"),
        ({"classes": (-1,)}, "config.data.classes=(-1,)"),
        ({"classes": ("3",)}, "config.data.classes=('3',)"),
        ({"train_per_class": 1000}, "is more than a class of digits has, which is"),
        ({"train_per_class": -1}, "config.data.train_per_class=-1 is not allowed"),
        ({"classes": (3, 4), "image_size": 32}, "are for images that are kept on the device"),
    ],
)
def test_a_part_that_there_is_not(fields, message):
    with pytest.raises(UserError) as error:
        load(**fields)
    assert message in str(error.value)
