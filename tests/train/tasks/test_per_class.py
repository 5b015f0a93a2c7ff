"""Predictions for the test split, the metrics of each class, and medical data sets."""

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
from tests.support import image_folder, linear
from train import data
from train.config import default_config, validate
from train.data import tfds_classification
from train.data.inputs import standardize, to_pixels
from train.errors import UserError
from train.tasks.per_class import Predictions, per_class_metrics
from train.tasks.task import means

TISSUES = ("tumor", "stroma", "complex", "lympho", "debris", "mucosa", "adipose", "empty")


def test_per_class_metrics_match_definitions():
    logits = np.array([[2, 1, 0], [3, 0, 0], [0, 1, 0.5], [2, 1.5, 0], [0, 0, 0.2]], np.float32)
    labels = np.array([0, 0, 1, 1, 0], np.int32)
    first, second, third = per_class_metrics(Predictions(logits, labels), ("a", "b", "c"))
    assert first == {
        "class": "a",
        "precision": 2 / 3,  # the predicted classes are 0 0 1 0 2
        "recall": 2 / 3,
        "auc": pytest.approx(5 / 6),  # the examples by decreasing probability of a: 1 0 3 4 2
        "examples": 3,
    }
    assert (second["precision"], second["recall"], second["examples"]) == (1.0, 0.5, 2)
    assert third == {"class": "c", "precision": 0.0, "recall": None, "auc": None, "examples": 0}


def test_undefined_metrics_are_none():
    labels = np.array([0, 0, 1], np.int32)
    logits = np.array([[1, 0, 0], [2, 0, 0], [1, 0, 0]], np.float32)
    zero, one, _ = per_class_metrics(Predictions(logits, labels), ())
    assert (zero["class"], zero["precision"], zero["recall"]) == (0, 2 / 3, 1.0)
    assert (one["class"], one["precision"], one["recall"]) == (1, None, 0.0)
    only_class = per_class_metrics(Predictions(logits, np.zeros(3, np.int32)), ())[0]
    assert (only_class["precision"], only_class["auc"]) == (1.0, None)


def test_nonfinite_logits_predict_nothing():
    labels = np.array([0, 0, 1], np.int32)
    logits = np.array([[np.nan, 0, 0], [2, 0, 0], [1, 0, 0]], np.float32)
    zero, one, _ = per_class_metrics(Predictions(logits, labels), ())
    assert (zero["precision"], zero["recall"], zero["auc"], one["auc"]) == (0.5, 0.5, None, None)


@pytest.mark.parametrize("num_devices", [8, 1])
def test_digits_metrics_match_scikit_learn(num_devices):
    config = default_config()
    config.eval.batch_size = 112  # does not divide the 360 examples
    config.data.batch_size = 16
    run = linear.prepare(config, devices=jax.devices()[:num_devices])
    state = run.init_state()
    executor = run.compile(state)
    state, *_ = executor.steps(state, 0, 10)
    predictions = executor.predict(state)
    test = run.dataset.test
    np.testing.assert_array_equal(predictions.labels, test.labels)
    kernel = np.asarray(state.params["kernel"])
    logits = np.asarray(standardize(to_pixels(test.inputs), config)).reshape(360, -1) @ kernel
    np.testing.assert_allclose(predictions.logits, logits, atol=1e-4)

    metrics = per_class_metrics(predictions, run.dataset.class_names)
    probabilities = np.asarray(jax.nn.softmax(logits))
    for index, class_metrics in enumerate(metrics):
        is_class, is_predicted = test.labels == index, logits.argmax(axis=1) == index
        assert class_metrics["class"] == str(index)
        assert class_metrics["examples"] == is_class.sum()
        precision = sklearn.metrics.precision_score(is_class, is_predicted)
        assert class_metrics["precision"] == precision
        assert class_metrics["recall"] == sklearn.metrics.recall_score(is_class, is_predicted)
        auc = sklearn.metrics.roc_auc_score(is_class, probabilities[:, index])
        assert class_metrics["auc"] == pytest.approx(auc, abs=1e-4)
    top1 = means(executor.evaluate(state)[""])["top1"]
    num_correct = sum(each["recall"] * each["examples"] for each in metrics)
    assert num_correct / 360 == pytest.approx(top1)


def test_streamed_predictions_are_complete(tmp_path):
    image_folder.write(tmp_path)
    run = linear.prepare(image_folder.make_config(tmp_path), devices=jax.devices()[:1])
    state = run.init_state()
    with contextlib.closing(run.compile(state)) as executor:
        predictions = executor.predict(state)
    assert predictions.logits.shape == (6, 2)
    assert list(predictions.labels) == [0, 0, 0, 1, 1, 1]
    assert run.dataset.class_names == image_folder.CLASSES


def write_data_set(root, name, side, num_classes, split_sizes, id_feature):
    """Write a data set with the features of TFDS's set `name`, but with few images."""
    builder = tfds.builder(name, data_dir=root, file_format="array_record")
    Path(builder.data_dir).mkdir(parents=True)
    writer = tfds.core.SequentialWriter(builder.info, 1000, file_format="array_record")
    writer.initialize_splits(list(split_sizes))
    rng = np.random.default_rng(0)

    def examples(size):
        for index in range(size):
            png = io.BytesIO()
            pixels = rng.integers(0, 256, (2, 2, 3), np.uint8)
            Image.fromarray(pixels).resize((side, side)).save(png, "png")
            png.seek(0)
            yield {"image": png, "label": index % num_classes, id_feature: str(index)}

    writer.add_examples({split: list(examples(size)) for split, size in split_sizes.items()})
    writer.close_all()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a TFDS folder with two medical data sets."""
    root = tmp_path_factory.mktemp("medical")
    write_data_set(root, "colorectal_histology", 150, 8, {"train": 40}, "filename")
    split_sizes = {"train": 24, "validation": 8, "test": 8}
    write_data_set(root, "patch_camelyon", 96, 2, split_sizes, "id")
    return root


@pytest.fixture
def histology(root, monkeypatch, tmp_path):
    """Return the config of colorectal histology, which tests on the end of its only split."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = colorectal_histology_gc.get_config()
    config.data.dir = str(root)
    return config


def test_histology_is_split(histology):
    dataset = data.load(histology)
    assert dataset.train.inputs.shape == (32, 150, 150, 3)
    assert dataset.test.inputs.shape == (8, 150, 150, 3)
    assert dataset.class_names == TISSUES
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    np.testing.assert_array_equal(labels, np.arange(40) % 8)
    images = {image.tobytes() for split in (dataset.train, dataset.test) for image in split.inputs}
    assert len(images) == 40, "no image is in both splits"
    cached = data.load(histology)
    for split in ("train", "test"):
        for array, same in zip(getattr(dataset, split), getattr(cached, split), strict=True):
            np.testing.assert_array_equal(array, same)
    description = data.describe(histology)
    assert (description.num_train, description.num_classes) == (32, 8)
    assert description.input_shape == (150, 150, 3)


def test_streamed_histology_has_same_split(histology):
    labels = data.load(histology).test.labels
    histology.data.image_size, histology.data.pad = 64, 0
    streamed = data.load(histology)
    assert (streamed.num_train, streamed.num_test, streamed.class_names) == (32, 8, TISSUES)
    with streamed.test_batches(8) as batches:
        np.testing.assert_array_equal(next(batches).labels, labels)


def test_patch_camelyon_has_test_split(root, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = patch_camelyon_gc.get_config()
    config.data.dir = str(root)
    dataset = data.load(config)
    assert (dataset.num_train, dataset.num_test, dataset.num_classes) == (24, 8, 2)
    assert dataset.input_shape == (96, 96, 3)
    config.data.test_share = 0.2
    with pytest.raises(UserError, match=r"config\.data\.test_share=0\.2"):
        data.load(config)


def test_share_without_examples_is_rejected(root):
    fields = default_config().data
    fields.name, fields.dir = "colorectal_histology", str(root)
    for share, empty in ((0.001, r"train\[40:\]"), (0.999, r"train\[:0\]")):
        fields.test_share = share
        with pytest.raises(UserError, match=rf"the split '{empty}' of colorectal_histology is emp"):
            tfds_classification.open_classified(fields, "image")
    fields.test_share = 0.0
    with pytest.raises(UserError, match=r"set config\.data\.test_share to the share"):
        tfds_classification.open_classified(fields, "image")


def test_digits_reject_test_share():
    config = default_config()
    config.data.test_share = 0.2
    with pytest.raises(UserError, match="test_share"):
        validate(config)
