"""The mean and the standard deviation that `data.mean="measure"` finds, and where they are kept."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from tests.support import image_folder
from train import data, evaluate, experiment, export, loop, predict, trained
from train.config import default_config, validate
from train.data import standardization
from train.data.dataset import Dataset, Split
from train.data.streaming import crops
from train.errors import Preempted, UserError
from train.output.saved_run import read_config


def digits_config(**fields):
    config = default_config()
    config.data.mean = config.data.std = "measure"
    config.update(num_steps=8, log_every_steps=4, steps_per_dispatch=4)
    config.checkpoint.every_steps = 4
    config.data.update(fields)
    validate(config)
    return config


def folder_config(root):
    config = image_folder.make_config(root)
    config.data.mean = config.data.std = "measure"
    config.num_steps, config.data.batch_size = 2, 8
    validate(config)
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    image_folder.write(root)
    rng = np.random.default_rng(0)
    for name in [f"{kind}/{index}.png" for kind in image_folder.CLASSES for index in range(4)]:
        pixels = rng.integers(0, 200, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(root / "train" / name)
    return root


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished") / "run"
    return workdir, loop.train(digits_config(), workdir)


def assert_figures_of(figures, images):
    pixels = images.reshape(-1, images.shape[-1]) / 255
    np.testing.assert_allclose(figures.mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(figures.std, pixels.std(0), rtol=1e-10)


def random_dataset(images):
    labels = np.zeros(len(images), np.int32)
    return Dataset(Split(images, labels), Split(255 - images[:9], labels[:9]), 2)


def test_images_in_memory():
    rng = np.random.default_rng(0)
    images = (rng.random((600, 5, 7, 3)) ** [1, 2, 3] * 256).astype(np.uint8)
    assert_figures_of(standardization.measure(digits_config(), random_dataset(images)), images)


def test_nearly_constant_images():
    images: np.ndarray = np.full((3000, 32, 32, 1), 255, np.uint8)
    images[0, 0, 0] = 254  # sums of float32 would give a deviation of 0
    assert_figures_of(standardization.measure(digits_config(), random_dataset(images)), images)


def test_streamed_images(folder, monkeypatch):
    config = folder_config(folder)
    stream = data.load(config)
    images = [crops.center_crop(stream.train[i].content, 8) for i in range(stream.num_train)]
    figures = standardization.measure(config, stream)
    assert_figures_of(figures, np.stack(images))
    config.data.in_memory = True
    assert standardization.measure(config, data.load(config)) == figures
    monkeypatch.setattr(standardization, "_SAMPLE", 4)
    ids = np.arange(len(images))  # another object, as the figures are kept for the first
    sampled = standardization.measure(config, stream.divide(ids, ids))
    config.seed = 1
    again = standardization.measure(config, stream.divide(ids, ids))
    assert sampled == again != figures


def test_validation_images_do_not_count(folder):
    config = folder_config(folder)
    stream = data.load(config)
    stream = stream.divide(np.arange(4), np.arange(4, stream.num_train))
    rest = stream.train
    config.data.batch_size = 4
    run = experiment.prepare(config, stream, jax.devices()[:1])
    images = [crops.center_crop(rest[index].content, 8) for index in range(4)]
    assert_figures_of(run.config.data, np.stack(images))


@pytest.mark.parametrize("field", ["mean", "std"])
def test_one_field_alone(field):
    config = digits_config(**({"mean": (0.5,), "std": (0.5,)} | {field: "measure"}))
    filled = experiment.prepare(config).config.data
    images = data.load(config).train.inputs / 255
    expected = {"mean": (0.5,), "std": (0.5,)} | {field: (getattr(images, field)(),)}
    assert filled.mean == pytest.approx(expected["mean"])
    assert filled.std == pytest.approx(expected["std"])


@pytest.mark.slow
def test_same_bits_as_with_numbers(finished, tmp_path):
    workdir, summary = finished
    figures = json.loads((workdir / "standardization.json").read_text())
    plain = loop.train(digits_config(**figures), tmp_path / "run")
    assert plain["params_sha256"] == summary["params_sha256"]
    assert not (tmp_path / "run" / "standardization.json").exists()


@pytest.mark.slow
def test_resumed_run_reads_its_figures(finished, tmp_path, monkeypatch):
    stops = iter((False, False, True))  # checked after steps 1, 4 and 8; step 4 is saved

    def stop(*_):
        if next(stops):
            raise Preempted("stopped")

    with monkeypatch.context() as patched:
        patched.setattr(loop, "raise_if_nonfinite", stop)
        with pytest.raises(Preempted):
            loop.train(digits_config(), tmp_path)
    monkeypatch.delattr(standardization, "measure")
    resumed = loop.train(digits_config(), tmp_path)
    assert resumed["params_sha256"] == finished[1]["params_sha256"]


@pytest.mark.slow
def test_evaluate_predict_and_export(finished, tmp_path, monkeypatch):
    workdir, summary = finished
    monkeypatch.delattr(standardization, "measure")
    assert evaluate.main(["evaluate", "--workdir", str(workdir)]) == 0
    report = json.loads((workdir / "evaluation.json").read_text())
    assert report["test_loss"] == summary["test_loss"]
    config = read_config(workdir)
    monkeypatch.delattr(data, "load")  # the rest needs no data
    run = trained.load(workdir, config)
    assert export.describe(run)["preprocessing"]["mean"] == config.data.mean
    assert 0.3 < config.data.mean[0] < 0.31
    images = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 1), np.uint8)
    inputs = (images / 255 - config.data.mean) / config.data.std
    logits, _ = run.task.model.apply(run.params, run.stats, inputs.astype(np.float32), False)
    np.testing.assert_allclose(predict.predict(run, images), jax.nn.softmax(logits), atol=1e-5)


@pytest.mark.slow
def test_streamed_run(folder, tmp_path):
    loop.train(folder_config(folder), tmp_path)
    figures = json.loads((tmp_path / "standardization.json").read_text())
    saved = read_config(tmp_path).data
    assert {"mean": saved.mean, "std": saved.std} == {k: tuple(v) for k, v in figures.items()}


def test_constant_images_are_rejected():
    images: np.ndarray = np.full((9, 2, 2, 1), 7, np.uint8)
    with pytest.raises(UserError, match="all pixels of a channel have the same value"):
        standardization.measure(digits_config(), random_dataset(images))


@pytest.mark.parametrize("field", ["mean", "std"])
def test_texts_are_rejected(field):
    config = default_config()
    config.data.update({"name": "imdb_reviews", "vocabulary": 100, field: "measure"})
    with pytest.raises(UserError, match=rf"config.data.{field}='measure' is for images"):
        validate(config)


@pytest.mark.slow
def test_damaged_or_missing_file(finished):
    file = finished[0] / "standardization.json"
    content = file.read_text()
    file.write_text('{"mean": [0.5]}')
    with pytest.raises(UserError, match=r"standardization\.json is damaged"):
        read_config(finished[0])
    file.unlink()
    with pytest.raises(UserError, match=r"has no standardization\.json"):
        read_config(finished[0])
    file.write_text(content)
