"""Data sets in memory: their fields, tiles, and what changes their fingerprints."""

import jax
import numpy as np
import pytest

from tests.support.detection import coco_dict, open_set, write_coco
from train.data.detection import coco_folder, dataset
from train.data.detection.batch import DetectionBatch
from train.data.detection.views import ViewOptions
from train.errors import UserError

OPTIONS = ViewOptions(40, 60, max_objects=3, mask_size=14)


def load(root, options=OPTIONS):
    splits = coco_folder.open_splits(str(root), masks=True)
    return dataset.load(splits.train, splits.test, options)


def test_fields_are_those_of_a_batch(tmp_path):
    data = load(write_coco(tmp_path / "coco"))
    assert (*data.train._fields, "mask") == DetectionBatch._fields
    shapes = [array.shape for array in data.train]
    assert shapes == [(2, 64, 64, 3), (2, 2), (2, 3, 4), (2, 3), (2, 3), (2, 3, 14, 14), (2,)]
    dtypes = [array.dtype.name for array in data.train]
    assert dtypes == ["uint8", "int32", "float32", "int32", "bool", "uint8", "int32"]
    assert data.train.sizes.tolist() == [[40, 60]] * 2
    assert data.train.boxes[0, 0].tolist() == [4, 6, 20, 18]
    assert (data.num_classes, data.num_train, data.num_test) == (2, 2, 1)
    assert data.input_shape == (64, 64, 3)


def test_batch_is_gathered_on_the_device(tmp_path):
    split = jax.device_put(load(write_coco(tmp_path / "coco")).train)
    ids = np.array([1, 0, 1])
    batch = DetectionBatch(*(array[ids] for array in split), mask=np.ones(3, bool))
    assert batch.ids.tolist() == [1, 0, 1]


def test_real_sets_fit_their_shapes():
    train, test = open_set("nuclei")
    data = dataset.load(train, test, ViewOptions(tile=128, max_objects=32, mask_size=28))
    assert data.train.inputs.shape == (1178, 128, 128, 3)
    ids = []
    with data.test_batches(4) as batches:
        for batch in batches:
            padding = batch.inputs.shape[1:3] - batch.sizes[batch.mask]
            assert (padding >= 0).all()
            assert (padding < 32).all()
            ids += batch.ids[batch.mask].tolist()
    assert sorted(ids) == list(range(26))
    assert set(data.train.ids) == set(range(104))
    assert "training examples with more than 32 objects" in data.note
    # Each object is whole in some tile, or cut by all of them.
    learned = ((data.train.classes >= 0) & ~data.train.crowd).sum()
    assert learned > 0.95 * train.annotations.num_objects
    widths = data.train.sizes[:, None, 1]
    assert (data.train.boxes[..., 2] <= widths).all()
    assert (data.train.boxes >= 0).all()


def test_surplus_is_counted(tmp_path):
    root = write_coco(tmp_path / "coco")
    assert load(root).note == ""
    few = load(root, OPTIONS._replace(max_objects=1))
    assert few.note == (
        "training examples with more than 1 objects, of which the largest are learned "
        "(2, with up to 2 objects)"
    )
    assert few.train.classes.shape == (2, 1)
    assert few.annotations.num_objects == 2  # what predictions are scored against is complete


@pytest.mark.parametrize("field", dataset.DetectionSplit._fields)
def test_fingerprint_depends_on_every_field(tmp_path, field):
    split = load(write_coco(tmp_path / "coco")).train
    array = getattr(split, field).copy()
    array.flat[0] = array.flat[0] == 0
    changed = split._replace(**{field: array})
    assert changed.fingerprint() != split.fingerprint()
    assert split.fingerprint()["examples"] == 2


def test_select(tmp_path):
    data = load(write_coco(tmp_path / "coco"))
    assert data.train.select(np.array([1])).ids.tolist() == [1]
    assert data.train.select(np.array([1, 0])).fingerprint() != data.train.fingerprint()


def test_too_large_for_the_memory(tmp_path, monkeypatch):
    root = write_coco(tmp_path / "coco")
    monkeypatch.setattr(dataset, "_MEMORY_SHARE", 1e-9)
    with pytest.raises(UserError, match="2 examples of 64x64 pixels need"):
        load(root)


def test_empty_images_are_background(tmp_path):
    train = coco_dict()
    train["annotations"] = train["annotations"][:2]
    data = load(write_coco(tmp_path / "coco", train))
    assert (data.train.classes[1] == -1).all()
