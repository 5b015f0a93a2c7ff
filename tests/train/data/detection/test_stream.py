"""Streams of detection: each image once an epoch, the same bits from any step."""

import itertools
import json

import chex
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.support.detection import coco_dict, write_coco
from train.data.detection import coco_folder, shape_groups
from train.data.detection.batch import DetectionBatch
from train.data.detection.shape_groups import ShapeGroup
from train.data.detection.stream import DetectionStream
from train.data.detection.views import ViewOptions
from train.errors import UserError

OPTIONS = ViewOptions(32, 64, scale_jitter=(0.5, 2.0), max_objects=2, mask_size=7)
NUM_LANDSCAPE, NUM_PORTRAIT = 9, 4


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    """A split of 9 landscape and 4 portrait images, for training and for testing."""
    root = write_coco(tmp_path_factory.mktemp("data") / "coco")
    content = coco_dict(NUM_LANDSCAPE + NUM_PORTRAIT)
    for index, image in enumerate(content["images"]):
        if index % 3 == 1 and index // 3 < NUM_PORTRAIT:
            image["height"], image["width"] = 30, 20
        pixels = np.random.default_rng(index).integers(
            0, 255, (image["height"], image["width"], 3), np.uint8
        )
        Image.fromarray(pixels).save(root / "images" / image["file_name"])
    for thing in content["annotations"]:
        thing["segmentation"] = [[2, 3, 10, 3, 10, 9, 2, 9]]
    for name in ("train", "test"):
        (root / f"instances_{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return coco_folder.open_splits(str(root), masks=True)


def open_stream(splits, options=OPTIONS, batch_size=3, **more):
    more = {"seed": 1, **more}
    return DetectionStream(splits.train, splits.test, options, batch_size=batch_size, **more)


def take(stream, first, count):
    with stream.train_batches(first) as batches:
        return list(itertools.islice(batches, count))


def test_batches_have_one_shape(splits):
    stream = open_stream(splits)
    assert stream.train_shapes == ((32, 64), (64, 32))
    for step, batch in enumerate(take(stream, 0, 13)):
        assert isinstance(batch, DetectionBatch)
        assert batch.inputs.shape == (3, *stream.train_shape(step), 3)
        assert batch.masks.shape == (3, 2, 7, 7)
        assert batch.mask.all()
        assert (batch.sizes <= batch.inputs.shape[1:3]).all()
        assert (batch.boxes <= np.tile(batch.sizes[:, ::-1], 2)[:, None] + 1e-4).all()


def test_every_image_once_an_epoch(splits):
    """13 steps of 3 are three epochs of 13 images."""
    ids = np.concatenate([batch.ids for batch in take(open_stream(splits), 0, 13)])
    assert np.bincount(ids).tolist() == [3] * 13
    assert ids[:13].tolist() != sorted(ids[:13])


@pytest.mark.parametrize("first", [1, 6, 12])
def test_same_bits_from_any_step(splits, first):
    stream = open_stream(splits)
    for batch, expected in zip(take(stream, first, 2), take(stream, 0, 15)[first:], strict=False):
        chex.assert_trees_all_equal(batch, expected)


def test_seed_changes_order_views_and_flips(splits):
    one, other = (take(open_stream(splits, seed=seed), 0, 13) for seed in (1, 2))
    assert [batch.ids.tolist() for batch in one] != [batch.ids.tolist() for batch in other]
    # All images have 20x30 or 30x20 pixels, so the longer sides depend on the views alone.
    sides = [np.concatenate([batch.sizes.max(1) for batch in batches]) for batches in (one, other)]
    assert len(np.unique(sides[0])) > 10
    assert (sides[0] != sides[1]).mean() > 0.5


def test_half_of_the_images_are_flipped(splits):
    still = OPTIONS._replace(scale_jitter=(1, 1))
    plain = take(open_stream(splits, still._replace(flip=False)), 0, 26)
    flipped = take(open_stream(splits, still), 0, 26)
    changed = np.concatenate(
        [(a.inputs != b.inputs).any((1, 2, 3)) for a, b in zip(plain, flipped, strict=True)]
    )
    assert 0.25 < changed.mean() < 0.75


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_a_batch(splits, processes):
    whole = take(open_stream(splits, batch_size=5), 3, 2)
    parts = [
        take(open_stream(splits, batch_size=5, process_index=index, process_count=processes), 3, 2)
        for index in range(processes)
    ]
    for step, expected in enumerate(whole):
        joined = DetectionBatch(
            *(
                np.concatenate(arrays)
                for arrays in zip(*(part[step] for part in parts), strict=True)
            )
        )
        chex.assert_trees_all_equal(joined, expected)


@pytest.mark.parametrize("batch_size", [1, 4, 20])
def test_each_test_image_once(splits, batch_size):
    with open_stream(splits).test_batches(batch_size) as batches:
        batches = list(batches)
    assert {len(batch.ids) for batch in batches} == {batch_size}
    ids = np.concatenate([batch.ids[batch.mask] for batch in batches])
    assert sorted(ids) == list(range(13))
    for batch in batches:
        assert (batch.classes[~batch.mask] == -1).all()
        assert not batch.inputs[~batch.mask].any()


@pytest.mark.slow
def test_worker_processes_give_the_same(splits):
    expected = take(open_stream(splits), 4, 2)
    for batch, other in zip(take(open_stream(splits, workers=1), 4, 2), expected, strict=True):
        chex.assert_trees_all_equal(batch, other)


def test_random_tiles(splits):
    options = OPTIONS._replace(tile=16)
    stream = open_stream(splits, options)
    assert stream.train_shapes == ((32, 32),)
    batches = take(stream, 0, 13)
    for batch in batches:
        assert batch.sizes.tolist() == [[16, 16]] * 3
    assert any(batch.crowd.any() for batch in batches)  # objects that a tile cuts
    with stream.test_batches(4) as tests:
        assert {tuple(size) for batch in tests for size in batch.sizes[batch.mask]} == {
            (20, 30),
            (30, 20),
        }


def test_damaged_image(tmp_path):
    root = write_coco(tmp_path / "coco")
    stream = open_stream(coco_folder.open_splits(str(root), masks=True))
    (root / "images" / "1.png").write_bytes(b"text")
    with pytest.raises(UserError, match=r"1\.png is damaged"):
        take(stream, 0, 2)


def test_note_of_surplus(splits):
    options = OPTIONS._replace(max_objects=1)
    assert open_stream(splits, options).note == ""  # jittered views can show fewer
    note = open_stream(splits, options._replace(scale_jitter=(1, 1))).note
    assert "more than 1 objects" in note
    assert "(13, with up to 2 objects)" in note


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 8))
def test_groups_take_turns(first, second, batch_size):
    groups = ShapeGroup((1, 2), np.arange(first)), ShapeGroup((2, 1), np.arange(second))
    numbers = {group.shape: [] for group in groups}
    steps = 3 * (first + second)
    for step in range(steps):
        group, number = shape_groups.training_batch(groups, step)
        numbers[group.shape].append(number)
    for group in groups:
        found = numbers[group.shape]
        assert found == list(range(len(found)))  # none is skipped or repeated
        assert len(found) == 3 * len(group.ids)
    total = shape_groups.num_ordered_batches(groups, batch_size)
    places = [shape_groups.ordered_batch(groups, batch_size, index) for index in range(total)]
    for group in groups:
        found = [number for other, number in places if other.shape == group.shape]
        assert found == list(range(-(-len(group.ids) // batch_size)))
