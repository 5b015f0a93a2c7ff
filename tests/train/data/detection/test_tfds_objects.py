"""TFDS data sets with boxes: what is read, cached and reported; one trains."""

import numpy as np
import pytest
from PIL import Image

from tests.support import tfds_coco
from train.config import default_config, validate
from train.data.detection import digits_detection, load, tfds_objects
from train.data.detection.annotations import Objects
from train.errors import UserError


def make_objects(*boxes, crowd=False):
    count = len(boxes)
    return Objects(
        np.array(boxes, np.float64).reshape(-1, 4),
        np.arange(count, dtype=np.int32),
        np.full(count, crowd),
        [],
    )


def canvases(count):
    """Return some images of digits, with their objects."""
    train, _ = digits_detection.open_splits()
    return [(train.image(index), train.annotations.image_objects(index)) for index in range(count)]


def config_for(root, **fields):
    config = default_config()
    config.model.name = "faster_rcnn"
    config.data.name, config.data.dir = tfds_coco.NAME, str(root)
    config.data.mean = config.data.std = (0.5, 0.5, 0.5)
    config.data.pad, config.data.augment = 0, "none"
    config.data.update(fields)
    return config


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a TFDS folder whose test split is that of a competition: it has no objects."""
    root = tmp_path_factory.mktemp("tfds")
    blank = Image.new("RGB", (60, 40))
    crowd = (blank, make_objects((0, 0, 60, 20), crowd=True))
    nothing = (blank, make_objects())
    tfds_coco.write(
        root,
        train=[*canvases(4), crowd, nothing],
        validation=[nothing, *canvases(2)],
        test=[nothing] * 2,
    )
    return root


def test_boxes_are_those_written(root):
    train, test, note = tfds_objects.open_splits(config_for(root).data)
    expected = digits_detection.open_splits()[0].annotations
    annotations = train.annotations
    assert annotations.sizes.tolist() == [[64, 64]] * 4 + [[40, 60]] * 2
    for index in range(4):
        found, wanted = annotations.image_objects(index), expected.image_objects(index)
        np.testing.assert_allclose(found.boxes, wanted.boxes, atol=1e-4)
        np.testing.assert_array_equal(found.classes, wanted.classes)
    assert annotations.image_objects(4).crowd.tolist() == [True]
    assert annotations.areas[annotations.starts[4]] == 1200
    assert annotations.num_objects == expected.starts[4] + 1
    assert test.annotations.num_images == 3
    assert len(train.class_names) == 80
    assert train.class_names[0] == "class 0"
    assert "'train' of coco/2017" in note
    assert "'validation' of coco/2017" in note


def test_images_are_decoded(root):
    train, _, _ = tfds_objects.open_splits(config_for(root).data)
    pixels = np.asarray(train.image(0), np.float32)
    original = np.asarray(canvases(1)[0][0], np.float32)
    assert pixels.shape == (64, 64, 3)
    assert abs(pixels - original).mean() < 5


def test_records_are_read_once(tmp_path, capsys):
    tfds_coco.write(tmp_path, train=canvases(2), validation=canvases(1))
    first = tfds_objects.open_splits(config_for(tmp_path).data)
    assert capsys.readouterr().out.count("reading the boxes") == 2
    second = tfds_objects.open_splits(config_for(tmp_path).data)
    assert not capsys.readouterr().out
    assert first.train.fingerprint() == second.train.fingerprint()


def test_wrong_boxes_are_named(tmp_path):
    (image, objects), *_ = canvases(1)
    flat = make_objects((3, 4, 3, 20), (5, 6, 20, 20))
    tfds_coco.write(tmp_path, train=[(image, objects), (image, flat)], validation=canvases(1))
    config = config_for(tmp_path)
    wrong = r"boxes without area \(1\): one of image 1; set --config\.data\.on_error=skip"
    with pytest.raises(UserError, match=wrong):
        tfds_objects.open_splits(config.data)
    config.data.on_error = "skip"
    train, _, note = tfds_objects.open_splits(config.data)
    assert len(train.annotations.image_objects(1).classes) == 1
    assert "left out boxes without area (1)" in note


def test_damaged_record_is_named(root, tmp_path):
    folder = tfds_coco.write(tmp_path, train=canvases(3), validation=canvases(1))
    (file,) = [path for path in folder.iterdir() if "train" in path.name]
    content = file.read_bytes()
    start = content.index(b"\xff\xd8\xff")
    file.write_bytes(content[:start] + bytes(40) + content[start + 40 :])
    with pytest.raises(UserError, match=r"of the split 'train' of coco/2017 in .* is damaged"):
        tfds_objects.open_splits(config_for(tmp_path).data)


def test_other_sets_are_rejected(tmp_path):
    with pytest.raises(UserError, match=r"cifar10 is not for detection: it needs the features"):
        tfds_objects.open_splits(config_for(tmp_path, name="cifar10").data)
    with pytest.raises(UserError, match=r"prepare it once with: make data NAME=coco/2017"):
        tfds_objects.open_splits(config_for(tmp_path).data)
    tfds_coco.write(tmp_path, train=canvases(1), test=[(canvases(1)[0][0], make_objects())])
    with pytest.raises(UserError, match="coco/2017 has no test split with objects"):
        tfds_objects.open_splits(config_for(tmp_path).data)


def test_set_that_is_not_prepared_is_described(tmp_path):
    description = load.describe(config_for(tmp_path, name="voc/2007"))
    assert description.num_classes == 20
    assert description.num_train is None


@pytest.mark.parametrize(
    ("section", "name", "message"),
    [
        ("model", "mask_rcnn", r"'mask_rcnn' needs masks, but TFDS's coco/2017 has boxes only"),
        ("data", "digits", r"data\.name='digits' does not fit config\.model\.name='faster_rcnn'"),
        ("data", "hf:cppe-5", r"set config\.data\.name to digits_detection, coco_folder or"),
        ("data", "my.py:data", "does not fit"),
    ],
)
def test_wrong_combinations_are_rejected(section, name, message):
    config = config_for("")
    config[section].name = name
    with pytest.raises(UserError, match=message):
        validate(config)


@pytest.mark.parametrize("in_memory", [False, True])
def test_batches(root, in_memory):
    config = config_for(root, in_memory=in_memory, batch_size=2)
    config.detection.backbone, config.detection.anchor_sizes = "small", (8.0, 16.0, 32.0)
    config.detection.short_side = config.detection.long_side = 64
    validate(config)
    dataset = load.load(config)
    assert (dataset.num_train, dataset.num_test, dataset.num_classes) == (6, 3, 80)
    with dataset.test_batches(2) as batches:
        found = [int(image) for batch in batches for image in batch.ids[batch.mask]]
    assert sorted(found) == [0, 1, 2]
