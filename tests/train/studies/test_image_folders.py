"""Studies on folders of images: streamed, and decoded in memory."""

import copy
import json

import numpy as np
import pytest
from PIL import Image

from tests.support.processes import ROOT
from tests.support.studying import lines
from train.config import default_config
from train.data import load
from train.loop import train
from train.studies import datasets
from train.studies.config import default_study
from train.studies.study import study

CONFIG = str(ROOT / "configs/digits_gc.py")
CLASSES = ("dark", "light", "red")
COLORS = ((0, 0, 0), (90, 90, 90), (130, 0, 0))
PER_CLASS = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """48 training and 12 test images of several sizes and formats."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", PER_CLASS), ("test", 4)):
        for label, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                size = (int(rng.integers(12, 30)), int(rng.integers(12, 30)), 3)
                pixels = (
                    rng.integers(0, 120, size) + np.array([(0,) * 3, (90,) * 3, (130, 0, 0)])[label]
                )
                image = Image.fromarray(pixels.astype(np.uint8))
                image.save(root / split / name / f"{index}.{('png', 'jpg')[index % 2]}")
    return root


def study_config(folder, **data):
    base = default_config()
    base.data.update(name="folder", dir=str(folder), image_size=8, batch_size=16)
    base.data.update(mean=(0.5,) * 3, std=(0.5,) * 3, flip=True, **data)
    base.num_steps, base.log_every_steps = 6, 3
    config = default_study(base)
    config.optimizers = ("momentum",)
    config.seeds = (0,)
    config.learning_rates.momentum = (0.01, 0.1)
    config.tuning.validation_examples = 9
    config.timing.pairs, config.timing.steps = 2, 2
    config.runs_at_once = 2
    return config


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rates", "data"),
    [((0.01, 0.1), {"crop_scale": ()}), ((0.1,), {}), ((0.1,), {"in_memory": True, "pad": 1})],
)
def test_study_on_image_folder(rates, data, folder, tmp_path):
    config = study_config(folder, **data)
    config.learning_rates.momentum = rates
    summary = study(copy.deepcopy(config), tmp_path / "study")
    assert (tmp_path / "study" / "report.md").exists()
    found = lines(tmp_path / "study").values()
    kinds = ["final", "final", "time"] + ["tune"] * 2 * (len(rates) if len(rates) > 1 else 0)
    assert sorted(line["kind"] for line in found) == kinds
    for line in found:
        if line["kind"] != "time":
            assert line["curve"]["step"] == [3, 6]
            assert min(line["curve"]["update_norm"]) > 0
            assert 0 <= line["train_top1"] <= 1
    # The trainer makes the same run; its program has no norms, so the sums may round differently.
    result = summary.arms[1].lines[0]
    run = copy.deepcopy(config.base)
    run.seed, run.optimizer.learning_rate = result["seed"], result["learning_rate"]
    trained = train(run, tmp_path / "run")
    assert trained["test_loss"] == pytest.approx(result["loss"], rel=1e-4)


@pytest.mark.parametrize("data", [{}, {"in_memory": True}])
def test_validation_split_of_folder_is_stratified(data, folder):
    config = study_config(folder, **data)
    tune, final = datasets.load_datasets(config, [])
    labels = [
        split.labels if data else split.labels() for split in (tune.train, tune.test, final.train)
    ]
    assert list(np.bincount(labels[0])) == [13, 13, 13]
    assert list(np.bincount(labels[1])) == [3, 3, 3]
    assert list(np.bincount(labels[2])) == [16, 16, 16]


def test_images_in_memory_are_center_crops(folder):
    in_memory = load(study_config(folder, in_memory=True).base)
    stream = load(study_config(folder).base)
    with stream.test_batches(5) as batches:
        rows = list(batches)
    mask = np.concatenate([row.mask for row in rows])
    inputs = np.concatenate([row.inputs for row in rows])[mask]
    np.testing.assert_array_equal(in_memory.test.inputs, inputs)
    np.testing.assert_array_equal(in_memory.test.labels, np.repeat([0, 1, 2], 4))
    assert in_memory.class_names == CLASSES
    assert json.dumps(in_memory.num_train) == "48"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"in_memory": True, "image_size": 0}, "in_memory=True is for images of any size"),
        ({"pad": 1}, "set config.data.pad to 0, or config.data.in_memory to True"),
        ({"classes": (0, 1), "pad": 0}, "or set config.data.in_memory to True"),
        ({"image_size": 0}, "needs config.data.image_size"),
        ({"in_memory": True, "image_size": 200_000}, "uses at most half of the memory"),
    ],
)
def test_mistake_is_one_line(fields, expected, folder, rejected, tmp_path):
    arguments = {"name": "folder", "dir": folder, "image_size": 8} | fields
    flags = [f"--config.data.{name}={value}" for name, value in arguments.items()]
    means = ["--config.data.mean=(0.5, 0.5, 0.5)", "--config.data.std=(0.5, 0.5, 0.5)"]
    assert expected in rejected("--config", CONFIG, *flags, *means)


@pytest.mark.slow
def test_classes_of_folder_in_memory(folder, tmp_path):
    config = study_config(folder, in_memory=True, classes=(2, 0), train_per_class=5)
    dataset = load(config.base)
    assert dataset.class_names == ("red", "dark")
    assert dataset.num_train == 10
