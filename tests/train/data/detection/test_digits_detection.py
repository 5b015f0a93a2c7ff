"""Digits on canvases: always the same, and true to their boxes and masks."""

import numpy as np

from train.data.detection import digits_detection
from train.data.detection.annotations import decode_mask
from train.data.in_memory import digits


def test_always_the_same():
    fingerprints = [split.fingerprint() for split in digits_detection.open_splits()]
    again = [split.fingerprint() for split in digits_detection.open_splits()]  # from the cache
    assert fingerprints == again
    assert [one["examples"] for one in fingerprints] == [2000, 200]
    assert fingerprints[0]["sha256"] != fingerprints[1]["sha256"]
    source = digits.load().test
    made = digits_detection._make("test", source)
    for array, other in zip(made, digits_detection._make("test", source), strict=True):
        np.testing.assert_array_equal(array, other)


def test_numbers_and_sizes():
    train, _ = digits_detection.open_splits()
    counts = np.diff(train.annotations.starts)
    assert counts.min() == 1
    assert counts.max() == digits_detection.MAX_DIGITS
    assert set(train.annotations.classes) == set(range(10))
    sides = train.annotations.boxes[:, 2:] - train.annotations.boxes[:, :2]
    assert sides.max() / np.median(sides) > 1.3
    assert sides.min() >= 3


def test_boxes_are_those_of_the_masks():
    _, test = digits_detection.open_splits()
    for index in range(0, 200, 7):
        objects = test.annotations.image_objects(index)
        masks = [decode_mask(mask, 64, 64) for mask in objects.masks]
        assert sum(masks).max() == 1  # they do not overlap
        for mask, box in zip(masks, objects.boxes, strict=True):
            rows, columns = np.nonzero(mask)
            tight = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            np.testing.assert_array_equal(box, tight)
            pixels = np.asarray(test.image(index))
            assert pixels[mask > 0].mean() > pixels[mask == 0].mean() + 20


def test_splits_share_no_digit():
    """The splits use those of the digits, which are disjoint."""
    source = digits.load()
    train = {image.tobytes() for image in source.train.inputs}
    test = {image.tobytes() for image in source.test.inputs}
    assert not train & test
