"""Error messages for data sets that are damaged or do not fit.

TFDS writes the data sets without TensorFlow, because their images are PNG files already.
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

# Libraries also warn before some of the errors.
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
    """Write a prepared data set of 64 training and 16 test images of 8x8 pixels."""
    kinds = {"image": features.Image(shape=(8, 8, 1)), "label": features.ClassLabel(num_classes=3)}
    kinds |= changed
    if splits is None:
        splits = {
            "train": examples(64) if train is None else train,
            "test": examples(16) if test is None else test,
        }
    of_set = {name: of for name, of in kinds.items() if of}
    return tfds_sets.write(root, name, of_set, splits, version)


# The arguments of `write`, and parts of the error message.
UNSUITABLE = {
    "no test split": ({"splits": {"train": examples(8)}}, "has the splits train; training needs"),
    "no training split": ({"splits": {"test": examples(8)}}, "has the splits test; training needs"),
    "no split at all": ({"splits": {}}, "blobs is not prepared in"),
    "an empty training split": ({"train": ()}, "the split 'train' of blobs is empty"),
    "an empty test split": ({"test": ()}, "the split 'test' of blobs is empty"),
    "a negative label": (
        {"test": examples(9, labels=(0, -1))},
        "record 1 of the split 'test'",
        "label -1",
    ),
    "a smaller image": (
        {"train": [*examples(64), *examples(1, (4, 4))]},
        "record 64 of the split 'train' of blobs",
        "shape (4, 4, 1) instead of (8, 8, 1)",
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
        "not for image classification: it needs the features 'image' and 'label', but has",
    ),
    "labels that are numbers": (
        {"label": features.Scalar(np.int64)},
        "not for image classification",
    ),
}


def edit(file, *keys_and_value):
    """Set a nested value in a JSON file."""
    *keys, last, value = keys_and_value
    tree = json.loads(file.read_text())
    parent = tree
    for key in keys:
        parent = parent[key]
    parent[last] = value
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


def truncate(file, length):
    file.write_bytes(file.read_bytes()[:length])


def flip_bit(file, offset):
    content = bytearray(file.read_bytes())
    content[offset] ^= 1
    file.write_bytes(content)


INFO, FEATURES = "dataset_info.json", "features.json"

# The damage to a good data set, and parts of the error message.
DAMAGED = {
    "a label out of range": (
        lambda folder: edit_feature(folder, "label", "classLabel", "numClasses", "2"),
        "record 2 of the split 'train' of blobs",
        "the label 2, but the 2 classes have the labels 0 to 1",
    ),
    "no classes": (
        lambda folder: edit_feature(folder, "label", "classLabel", {}),
        "no classes",
    ),
    "too many classes": (
        lambda folder: edit_feature(folder, "label", "classLabel", "numClasses", str(10**12)),
        "has 1000000000000 classes and 64 training examples",
    ),
    "images without pixels": (
        lambda folder: edit_feature(
            folder, "image", "image", "shape", {"dimensions": ["0", "8", "1"]}
        ),
        "images of shape (0, 8, 1)",
    ),
    "images larger than memory": (
        lambda folder: edit_feature(
            folder, "image", "image", "shape", {"dimensions": [str(10**6)] * 2 + ["1"]}
        ),
        "does not fit in memory",
    ),
    "an invalid record": (
        lambda folder: change_record(folder, 5, lambda _: b"garbage"),
        "record 5 of the split 'train' of blobs in",
        "is damaged",
        "prepare the data set again",
    ),
    "an empty record": (lambda folder: change_record(folder, 7, lambda _: b""), "record 7"),
    "an invalid image": (
        lambda folder: change_record(folder, 3, lambda old: old.replace(b"PNG", b"GNP"), "test"),
        "record 3 of the split 'test'",
    ),
    "an incomplete image": (
        lambda folder: change_record(folder, 9, lambda old: old.replace(b"IDAT", b"IDOT")),
        "record 9",
    ),
    "a record without its label": (
        lambda folder: change_record(folder, 4, lambda old: old.replace(b"label", b"lebal")),
        "record 4",
    ),
    "a flipped bit": (lambda folder: flip_bit(shard(folder), 100), "record 0", "hash mismatch"),
    "a truncated shard": (lambda folder: truncate(shard(folder), 60_000), "'train'", "is damaged"),
    "an empty shard": (lambda folder: truncate(shard(folder, "test"), 0), "'test'", "is damaged"),
    "a missing shard": (lambda folder: shard(folder).unlink(), "'train'", "No such file"),
    "a shard that is a folder": (
        lambda folder: (shard(folder).unlink(), shard(folder).mkdir()),
        "'train'",
        "Is a directory",
    ),
    "a missing record": (
        lambda folder: edit(folder / INFO, "splits", 0, "shardLengths", ["65"]),
        "record 64 of the split 'train'",
    ),
    "no description": (
        lambda folder: (folder / INFO).unlink(),
        "Could not read dataset info",
        INFO,
    ),
    "a truncated description": (
        lambda folder: truncate(folder / INFO, 99),
        "TFDS cannot open blobs",
        "JSON",
    ),
    "a description that is not UTF-8": (
        lambda folder: (folder / INFO).write_bytes(b"\xff\xfe"),
        "'utf-8'",
    ),
    "another description": (lambda folder: (folder / INFO).write_text("[]"), "cannot open blobs"),
    "another file format": (
        lambda folder: edit(folder / INFO, "fileFormat", "tfrecord"),
        "is prepared in",
        "as tfrecord",
        "tfds_array_record, and prepare it once with: ",
    ),
    "no features": (
        lambda folder: (folder / FEATURES).unlink(),
        "no data set of that name is prepared in",
    ),
    "truncated features": (
        lambda folder: truncate(folder / FEATURES, 99),
        "TFDS cannot open blobs",
        "JSON",
    ),
    "empty features": (
        lambda folder: (folder / FEATURES).write_text("{}"),
        "TFDS cannot open blobs",
    ),
    "features that run code": (
        lambda folder: edit(folder / FEATURES, "pythonClassName", "os.system"),
        "Unrecognized FeatureConnector type: os.system",
    ),
    "no version": (
        lambda folder: folder.rename(folder.with_name("latest")),
        "no data set of that name",
    ),
    "a set that is a file": (
        lambda folder: (shutil.rmtree(folder.parent), folder.parent.write_text("")),
        "Not a directory",
    ),
    "a data folder that is a file": (
        lambda folder: (shutil.rmtree(folder.parents[1]), folder.parents[1].write_text("")),
        "is a file; set --config.data.dir or TFDS_DATA_DIR to the folder",
    ),
    "a data folder that links to itself": (
        lambda folder: (
            shutil.rmtree(folder.parents[1]),
            folder.parents[1].symlink_to(folder.parents[1]),
        ),
        "no data set of that name is prepared in",
    ),
    "no data folder": (lambda folder: shutil.rmtree(folder.parents[1]), "no data set of that name"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    root = tmp_path_factory.mktemp("good") / "tfds"
    write(root)
    return root


def test_unregistered_set_is_read(good):
    config = default_config()
    config.data.name, config.data.dir = "blobs", str(good)
    dataset = data.load(config)
    assert dataset.num_classes == 3
    assert dataset.train.inputs.shape == (64, 8, 8, 1)
    np.testing.assert_array_equal(dataset.test.inputs[:, 0, 0, 0], np.arange(16))
    np.testing.assert_array_equal(dataset.test.labels, np.arange(16) % 3)


@pytest.mark.parametrize("case", UNSUITABLE)
def test_unsuitable_set_is_rejected(case, tmp_path, rejected):
    written, *expected = UNSUITABLE[case]
    write(tmp_path / "tfds", **written)
    error = rejected("--config", CONFIG, "--config.data.name=blobs")
    assert all(part in error for part in expected), error


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_set_is_reported(case, good, tmp_path, rejected):
    damage, *expected = DAMAGED[case]
    shutil.copytree(good, tmp_path / "tfds")
    damage(tmp_path / "tfds" / "blobs" / "1.0.0")
    error = rejected("--config", CONFIG, "--config.data.name=blobs")
    assert all(part in error for part in expected), error


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_unreadable_folder_is_reported(good, tmp_path, rejected):
    shutil.copytree(good, tmp_path / "tfds")
    (tmp_path / "tfds" / "blobs" / "1.0.0").chmod(0)
    try:
        assert "blobs" in rejected("--config", CONFIG, "--config.data.name=blobs")
    finally:
        (tmp_path / "tfds" / "blobs" / "1.0.0").chmod(0o700)


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="has TensorFlow")
@pytest.mark.parametrize("missing", ["all", INFO])
def test_error_names_the_prepare_command(missing, tmp_path, rejected):
    if missing != "all":
        truncate(write(tmp_path / "tfds", name="mnist", version="3.0.1") / missing, 20)
    error = rejected("--config", CONFIG, "--config.data.name=mnist")
    assert "mnist" in error
    assert f"make data NAME=mnist TFDS_DATA_DIR={tmp_path / 'tfds'}" in error


@pytest.mark.parametrize(
    ("name", "version", "file_format"),
    [
        ("mnist", "3.0.1", "tfrecord"),
        ("fashion_mnist", "3.0.1", "riegeli"),
        ("blobs", "1.0.0", "riegeli"),
        ("cifar10", "3.0.2", "tfrecord"),
    ],
)
def test_set_in_another_format_is_built_elsewhere(name, version, file_format, tmp_path, rejected):
    """TFDS refuses to build a set into the folder where it is prepared."""
    folder = write(tmp_path / "tfds", name=name, version=version)
    edit(folder / INFO, "fileFormat", file_format)
    error = rejected("--config", CONFIG, f"--config.data.name={name}")
    assert f"{name} is prepared in {folder} as {file_format}" in error
    other = f"{tmp_path}/tfds_array_record"
    assert f"set --config.data.dir={other}, and prepare it once with: " in error
    assert f"make data NAME={name} TFDS_DATA_DIR={other} " in error
    assert f"TFDS_DATA_DIR={tmp_path}/tfds " not in error


def test_channels_and_padding_must_fit(good, rejected):
    blobs = ("--config", CONFIG, "--config.data.name=blobs", f"--config.data.dir={good}")
    assert "data.mean has 3 value(s)" in rejected(*blobs, "--config.data.mean=(0.1, 0.2, 0.3)")
    assert "data.std has 2 value(s)" in rejected(*blobs, "--config.data.std=(0.1, 0.2)")
    assert "use at most 8" in rejected(*blobs, "--config.data.pad=9")
    assert "64 training examples" in rejected(*blobs, "--config.data.batch_size=128")


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
def test_invalid_name_is_rejected(name, rejected):
    error = rejected("--config", CONFIG, f"--config.data.name={name}")
    assert "config.data.name=" in error or "cannot open" in error
    assert len(error) < 1000
