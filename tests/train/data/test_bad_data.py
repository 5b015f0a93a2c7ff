"""Data folders with which no run can begin: real data sets, spoilt one by one.

TFDS's own writer makes them without TensorFlow, since their images come as PNG files.
"""

import importlib.util
import io
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from PIL import Image

from tests.support import tfds_sets
from tests.support.processes import ROOT
from train import data
from train.config import default_config

# What libraries warn of on the way to an error is not what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore")

CONFIG = ROOT / "configs" / "digits_gc.py"
features = tfds.features


def examples(count, shape=(8, 8), labels=(0, 1, 2)):
    for index in range(count):
        png = io.BytesIO()
        Image.fromarray(np.full(shape, index, np.uint8)).save(png, "png")
        png.seek(0)
        yield {"image": png, "label": labels[index % len(labels)]}


def write(root, train=None, test=None, *, name="blobs", version="1.0.0", splits=None, **changed):
    """A prepared set of 64 images of 8x8 to train on and 16 to test."""
    kinds = {"image": features.Image(shape=(8, 8, 1)), "label": features.ClassLabel(num_classes=3)}
    kinds |= changed
    if splits is None:
        splits = {
            "train": examples(64) if train is None else train,
            "test": examples(16) if test is None else test,
        }
    of_set = {name: of for name, of in kinds.items() if of}
    return tfds_sets.write(root, name, of_set, splits, version)


# What is written, and what the error says.
WRITTEN = {
    "no test split": ({"splits": {"train": examples(8)}}, "has the splits train; training needs"),
    "no training split": ({"splits": {"test": examples(8)}}, "has the splits test; training needs"),
    "no split at all": ({"splits": {}}, "blobs is not prepared in"),
    "an empty training split": ({"train": ()}, "the split 'train' of blobs is empty"),
    "an empty test split": ({"test": ()}, "the split 'test' of blobs is empty"),
    "no label": ({"test": examples(9, labels=(0, -1))}, "record 1 of the split 'test'", "label -1"),
    "a smaller image": (
        {"train": [*examples(64), *examples(1, (4, 4))]},
        "record 64 of the split 'train' of blobs",
        "shape (4, 4, 1), and the set says (8, 8, 1)",
    ),
    "an image of one pixel": ({"test": examples(1, (1, 1))}, "an image of shape (1, 1, 1)"),
    "a coloured image": ({"test": examples(1, (8, 8, 3))}, "an image of shape (8, 8, 3)"),
    "images of any size": (
        {"image": features.Image(shape=(None, None, 1))},
        "shape (None, None, 1) and type uint8; a data set in memory needs uint8 images of one size",
    ),
    "images of 16 bits": (
        {"image": features.Image(shape=(8, 8, 1), dtype=np.uint16, encoding_format="png")},
        "type uint16",
    ),
    "a set of text": (
        {
            "splits": {split: [{"text": "a", "label": 0}] * 9 for split in ("train", "test")},
            "image": None,
            "text": features.Text(),
        },
        "no image classification: it needs the features 'image' and 'label', and has",
    ),
    "labels that are numbers": ({"label": features.Scalar(np.int64)}, "no image classification"),
}


def edit(file, *keys_and_value):
    """Sets a value deep inside a JSON file."""
    *keys, last, value = keys_and_value
    tree = json.loads(file.read_text())
    place = tree
    for key in keys:
        place = place[key]
    place[last] = value
    file.write_text(json.dumps(tree))


def edit_feature(folder, feature, *keys_and_value):
    edit(folder / "features.json", "featuresDict", "features", feature, *keys_and_value)


def shard(folder, split="train"):
    return folder / f"blobs-{split}.array_record-00000"


def change_record(folder, index, change, split="train"):
    reader = ArrayRecordReader(str(shard(folder, split)))
    records = reader.read(0, reader.num_records())
    reader.close()
    records[index] = change(records[index])
    writer = ArrayRecordWriter(str(shard(folder, split)), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


def cut(file, length):
    file.write_bytes(file.read_bytes()[:length])


def flip_a_bit(file, at):
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


INFO, FEATURES = "dataset_info.json", "features.json"

# What happens to a good set, and what the error says.
SPOILT = {
    "a label out of range": (
        lambda at: edit_feature(at, "label", "classLabel", "numClasses", "2"),
        "record 2 of the split 'train' of blobs",
        "the label 2, and the set has 2 classes: labels must be from 0 to 1",
    ),
    "no classes": (
        lambda at: edit_feature(at, "label", "classLabel", {}),
        "no classes",
    ),
    "classes without number": (
        lambda at: edit_feature(at, "label", "classLabel", "numClasses", str(10**12)),
        "has 1000000000000 classes and 64 examples",
    ),
    "images without pixels": (
        lambda at: edit_feature(at, "image", "image", "shape", {"dimensions": ["0", "8", "1"]}),
        "images of shape (0, 8, 1)",
    ),
    "images larger than memory": (
        lambda at: edit_feature(
            at, "image", "image", "shape", {"dimensions": [str(10**6)] * 2 + ["1"]}
        ),
        "does not fit in memory",
    ),
    "a record that is none": (
        lambda at: change_record(at, 5, lambda _: b"garbage"),
        "record 5 of the split 'train' of blobs in",
        "is damaged",
        "prepare the set again",
    ),
    "an empty record": (lambda at: change_record(at, 7, lambda _: b""), "record 7"),
    "an image that is none": (
        lambda at: change_record(at, 3, lambda old: old.replace(b"PNG", b"GNP"), "test"),
        "record 3 of the split 'test'",
    ),
    "an image that breaks off": (
        lambda at: change_record(at, 9, lambda old: old.replace(b"IDAT", b"IDOT")),
        "record 9",
    ),
    "a record without its label": (
        lambda at: change_record(at, 4, lambda old: old.replace(b"label", b"lebal")),
        "record 4",
    ),
    "a flipped bit": (lambda at: flip_a_bit(shard(at), 100), "record 0", "hash mismatch"),
    "a truncated shard": (lambda at: cut(shard(at), 60_000), "'train'", "is damaged"),
    "an empty shard": (lambda at: cut(shard(at, "test"), 0), "'test'", "is damaged"),
    "a missing shard": (lambda at: shard(at).unlink(), "'train'", "No such file"),
    "a shard that is a folder": (
        lambda at: (shard(at).unlink(), shard(at).mkdir()),
        "'train'",
        "Is a directory",
    ),
    "fewer records than promised": (
        lambda at: edit(at / INFO, "splits", 0, "shardLengths", ["65"]),
        "record 64 of the split 'train'",
    ),
    "no description": (lambda at: (at / INFO).unlink(), "Could not read dataset info", INFO),
    "a torn description": (lambda at: cut(at / INFO, 99), "TFDS cannot open blobs", "JSON"),
    "a description in no encoding": (lambda at: (at / INFO).write_bytes(b"\xff\xfe"), "'utf-8'"),
    "another description": (lambda at: (at / INFO).write_text("[]"), "cannot open blobs"),
    "another file format": (
        lambda at: edit(at / INFO, "fileFormat", "tfrecord"),
        "['tfrecord']",
        "--file_format=array_record",
    ),
    "no features": (lambda at: (at / FEATURES).unlink(), "no set of that name is prepared in"),
    "torn features": (lambda at: cut(at / FEATURES, 99), "TFDS cannot open blobs", "JSON"),
    "empty features": (lambda at: (at / FEATURES).write_text("{}"), "TFDS cannot open blobs"),
    "features that run code": (
        lambda at: edit(at / FEATURES, "pythonClassName", "os.system"),
        "Unrecognized FeatureConnector type: os.system",
    ),
    "no version": (lambda at: at.rename(at.with_name("latest")), "no set of that name"),
    "a set that is a file": (
        lambda at: (shutil.rmtree(at.parent), at.parent.write_text("")),
        "Not a directory",
    ),
    "a data folder that is a file": (
        lambda at: (shutil.rmtree(at.parents[1]), at.parents[1].write_text("")),
        "is a file; point --config.data.dir or TFDS_DATA_DIR to the folder",
    ),
    "a data folder that leads to itself": (
        lambda at: (shutil.rmtree(at.parents[1]), at.parents[1].symlink_to(at.parents[1])),
        "no set of that name is prepared in",
    ),
    "no data folder": (lambda at: shutil.rmtree(at.parents[1]), "no set of that name"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    root = tmp_path_factory.mktemp("good") / "tfds"
    write(root)
    return root


def test_a_set_that_tfds_does_not_know_is_read_from_its_folder(good):
    config = default_config()
    config.data.name, config.data.dir = "blobs", str(good)
    dataset = data.load(config)
    assert dataset.num_classes == 3
    assert dataset.train.inputs.shape == (64, 8, 8, 1)
    np.testing.assert_array_equal(dataset.test.inputs[:, 0, 0, 0], np.arange(16))
    np.testing.assert_array_equal(dataset.test.labels, np.arange(16) % 3)


@pytest.mark.parametrize("case", WRITTEN)
def test_a_set_that_does_not_fit(case, tmp_path, refusal):
    written, *expected = WRITTEN[case]
    write(tmp_path / "tfds", **written)
    error = refusal("--config", CONFIG, "--config.data.name=blobs")
    assert all(part in error for part in expected), error


@pytest.mark.parametrize("case", SPOILT)
def test_a_set_that_is_damaged(case, good, tmp_path, refusal):
    spoil, *expected = SPOILT[case]
    shutil.copytree(good, tmp_path / "tfds")
    spoil(tmp_path / "tfds" / "blobs" / "1.0.0")
    error = refusal("--config", CONFIG, "--config.data.name=blobs")
    assert all(part in error for part in expected), error


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_must_not_be_read(good, tmp_path, refusal):
    shutil.copytree(good, tmp_path / "tfds")
    (tmp_path / "tfds" / "blobs" / "1.0.0").chmod(0)
    try:
        assert "blobs" in refusal("--config", CONFIG, "--config.data.name=blobs")
    finally:
        (tmp_path / "tfds" / "blobs" / "1.0.0").chmod(0o700)


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="has TensorFlow")
@pytest.mark.parametrize("damaged", ["not there", INFO])
def test_a_set_that_tfds_knows_is_prepared_by_a_command_that_is_named(damaged, tmp_path, refusal):
    if damaged != "not there":
        cut(write(tmp_path / "tfds", name="mnist", version="3.0.1") / damaged, 20)
    error = refusal("--config", CONFIG, "--config.data.name=mnist")
    assert "mnist" in error
    assert f"tfds build mnist --file_format=array_record --data_dir={tmp_path / 'tfds'}" in error


def test_channels_and_padding_must_fit_the_images(good, refusal):
    blobs = ("--config", CONFIG, "--config.data.name=blobs", f"--config.data.dir={good}")
    assert "data.mean has 3 numbers" in refusal(*blobs, "--config.data.mean=(0.1, 0.2, 0.3)")
    assert "data.std has 2 numbers" in refusal(*blobs, "--config.data.std=(0.1, 0.2)")
    assert "use at most 8" in refusal(*blobs, "--config.data.pad=9")
    assert "64 training examples" in refusal(*blobs, "--config.data.batch_size=128")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "..",
        "../blobs",
        "blobs/",
        "blobs:1",
        "blobs/a=1",
        "kaggle:blobs",
        "x" * 5000,
        "a b",
    ],
)
def test_a_name_that_can_be_no_data_set(name, refusal):
    error = refusal("--config", CONFIG, f"--config.data.name={name}")
    assert "config.data.name=" in error or "cannot open" in error
    assert len(error) < 1000
