"""Precision, recall and AUC of each class, and the sets of medical images that they are for."""

import contextlib
import io
from pathlib import Path

import jax
import numpy as np
import pytest
import sklearn.metrics
import tensorflow_datasets as tfds
from PIL import Image

from configs import colorectal_histology_gc, patch_camelyon_gc
from tests.support import linear
from tests.train.data.test_streaming import write_folder
from train import data
from train.config import default_config, validate
from train.data import tfds_builder
from train.data.inputs import standardize, to_pixels
from train.engine import predictions
from train.engine.predictions import Predictions
from train.errors import UserError

TISSUES = ("tumor", "stroma", "complex", "lympho", "debris", "mucosa", "adipose", "empty")


def test_figures_are_those_of_their_definitions():
    logits = np.array([[2, 1, 0], [3, 0, 0], [0, 1, 0.5], [2, 1.5, 0], [0, 0, 0.2]], np.float32)
    labels = np.array([0, 0, 1, 1, 0], np.int32)
    first, second, third = predictions.per_class_metrics(
        Predictions(logits, labels), ("a", "b", "c")
    )
    assert first == {
        "class": "a",
        "precision": 2 / 3,  # predicted: 0 0 1 0 2
        "recall": 2 / 3,
        "auc": pytest.approx(5 / 6),  # a's probabilities fall in the order 1 0 3 4 2
        "examples": 3,
    }
    assert (second["precision"], second["recall"], second["examples"]) == (1.0, 0.5, 2)
    assert third == {"class": "c", "precision": 0.0, "recall": None, "auc": None, "examples": 0}


def test_what_is_not_defined_is_none_and_what_is_not_finite_is_no_answer():
    labels = np.array([0, 0, 1], np.int32)
    logits = np.array([[1, 0, 0], [2, 0, 0], [1, 0, 0]], np.float32)
    zero, one, _ = predictions.per_class_metrics(Predictions(logits, labels), ())
    assert (zero["class"], zero["precision"], zero["recall"]) == (0, 2 / 3, 1.0)
    assert (one["class"], one["precision"], one["recall"]) == (1, None, 0.0)
    alone = predictions.per_class_metrics(Predictions(logits, np.zeros(3, np.int32)), ())[0]
    assert (alone["precision"], alone["auc"]) == (1.0, None)
    logits[0] = np.nan
    zero, one, _ = predictions.per_class_metrics(Predictions(logits, labels), ())
    assert (zero["precision"], zero["recall"], zero["auc"], one["auc"]) == (0.5, 0.5, None, None)


@pytest.mark.parametrize("devices", [8, 1])
def test_the_digits_figures_are_scikit_learns(devices):
    config = default_config()
    config.eval.batch_size = 112  # does not divide the 360 examples
    config.data.batch_size = 16
    run = linear.prepare(config, devices=jax.devices()[:devices])
    first = run.init_state()
    programs = run.compile(first)
    state, _ = programs.train(first, 0, 10)
    predicted = programs.predict(state)
    test = run.dataset.test
    np.testing.assert_array_equal(predicted.labels, test.labels)
    kernel = np.asarray(state.params["kernel"])
    logits = np.asarray(standardize(to_pixels(test.inputs), config)).reshape(360, -1) @ kernel
    np.testing.assert_allclose(predicted.logits, logits, atol=1e-4)

    figures = predictions.per_class_metrics(predicted, run.dataset.class_names)
    chances = np.asarray(jax.nn.softmax(logits))
    for index, of_class in enumerate(figures):
        truth, answer = test.labels == index, logits.argmax(axis=1) == index
        assert of_class["class"] == str(index)
        assert of_class["examples"] == truth.sum()
        assert of_class["precision"] == sklearn.metrics.precision_score(truth, answer)
        assert of_class["recall"] == sklearn.metrics.recall_score(truth, answer)
        auc = sklearn.metrics.roc_auc_score(truth, chances[:, index])
        assert of_class["auc"] == pytest.approx(auc, abs=1e-4)
    top1 = programs.evaluate(state).means()["top1"]
    right = sum(each["recall"] * each["examples"] for each in figures)
    assert right / 360 == pytest.approx(top1)


def test_streamed_predictions_are_whole_and_in_order(tmp_path):
    config = default_config()
    rgb = (0.5, 0.5, 0.5)
    folder = str(write_folder(tmp_path))
    config.data.update(name="folder", dir=folder, image_size=8, batch_size=6, mean=rgb, std=rgb)
    config.eval.batch_size = 4
    run = linear.prepare(config, devices=jax.devices()[:1])
    first = run.init_state()
    with contextlib.closing(run.compile(first)) as programs:
        predictions = programs.predict(first)
    assert predictions.logits.shape == (6, 2)
    assert list(predictions.labels) == [0, 0, 0, 1, 1, 1]
    assert run.dataset.class_names == ("ant", "bee")


def write(root, name, side, classes, count, text):
    """A set with TFDS's own description of it, and a part of its images."""
    builder = tfds.builder(name, data_dir=root, file_format="array_record")
    Path(builder.data_dir).mkdir(parents=True)
    writer = tfds.core.SequentialWriter(builder.info, 1000, file_format="array_record")
    writer.initialize_splits(list(count))
    rng = np.random.default_rng(0)

    def examples(size):
        for index in range(size):
            png = io.BytesIO()
            shade = rng.integers(0, 256, (2, 2, 3), np.uint8)
            Image.fromarray(shade).resize((side, side)).save(png, "png")
            png.seek(0)
            yield {"image": png, "label": index % classes, text: str(index)}

    writer.add_examples({split: list(examples(size)) for split, size in count.items()})
    writer.close_all()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("medical")
    write(root, "colorectal_histology", 150, 8, {"train": 40}, "filename")
    splits = {"train": 24, "validation": 8, "test": 8}
    write(root, "patch_camelyon", 96, 2, splits, "id")
    return root


def test_colorectal_histology_is_tested_on_the_end_of_its_only_split(root, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = colorectal_histology_gc.get_config()
    config.data.dir = str(root)
    dataset = data.load(config)
    assert dataset.train.inputs.shape == (32, 150, 150, 3)
    assert dataset.test.inputs.shape == (8, 150, 150, 3)
    assert dataset.class_names == TISSUES
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    np.testing.assert_array_equal(labels, np.arange(40) % 8)
    images = {image.tobytes() for split in (dataset.train, dataset.test) for image in split.inputs}
    assert len(images) == 40, "no image is trained on and tested"
    again = data.load(config)  # from the cache
    for split in ("train", "test"):
        for array, same in zip(getattr(dataset, split), getattr(again, split), strict=True):
            np.testing.assert_array_equal(array, same)
    known = data.describe(config)
    assert (known.num_train, known.num_classes, known.input_shape) == (32, 8, (150, 150, 3))

    config.data.image_size, config.data.pad = 64, 0
    streamed = data.load(config)
    assert (streamed.num_train, streamed.num_test, streamed.class_names) == (32, 8, TISSUES)
    with streamed.test_batches(8) as batches:
        np.testing.assert_array_equal(next(batches).labels, dataset.test.labels)


def test_patch_camelyon_has_a_test_split_of_its_own(root, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = patch_camelyon_gc.get_config()
    config.data.dir = str(root)
    dataset = data.load(config)
    assert (dataset.num_train, dataset.num_test, dataset.num_classes) == (24, 8, 2)
    assert dataset.input_shape == (96, 96, 3)
    config.data.test_share = 0.2
    with pytest.raises(
        UserError, match=r"config\.data\.test_share=0\.2 is for data sets without a test split, but"
    ):
        data.load(config)


def test_a_share_that_leaves_nothing_is_refused(root):
    for share, empty in ((0.001, r"train\[40:\]"), (0.999, r"train\[:0\]")):
        with pytest.raises(UserError, match=rf"the split '{empty}' of colorectal_histology is emp"):
            tfds_builder.open_prepared("colorectal_histology", str(root), "image", share)
    with pytest.raises(UserError, match=r"set config\.data\.test_share to the share"):
        tfds_builder.open_prepared("colorectal_histology", str(root), "image")


def test_a_set_with_a_test_split_of_ours_takes_no_share():
    config = default_config()
    config.data.test_share = 0.2
    with pytest.raises(UserError, match="test_share"):
        validate(config)
