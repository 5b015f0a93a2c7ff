"""The fine-grained configs, with small data sets of the same layout."""

import importlib

import numpy as np
import pytest

from tests.support import fine_grained
from tests.support.imagenet import jpeg
from train import data, experiment
from train.config import validate
from train.data.streaming import crops
from train.engine import plan, schedules
from train.loop import train

SETS = {
    "cars196_gc": ("cars196", 196),
    "cub200_gc": ("caltech_birds2011", 200),
    "dogs_gc": ("stanford_dogs", 120),
}


def config_of(name):
    return importlib.import_module(f"configs.{name}").get_config()


@pytest.mark.parametrize("name", SETS)
def test_unprepared_set_is_described(name, tmp_path):
    config = config_of(name)
    config.data.dir = str(tmp_path)
    assert config.data.name == SETS[name][0]
    assert data.describe(config) == (SETS[name][1], (448, 448, 3), None)


def reduce(config, root):
    """Reduce a config to two steps of a small model on images of 16 pixels."""
    config.num_steps, config.precision = 2, "float32"
    config.data.update(dir=str(root), batch_size=8, image_size=16)
    config.model.update(name="convnet", stem="3x3")
    config.eval.batch_size = 64
    return config


@pytest.mark.parametrize("name", SETS)
def test_prepared_set_is_read(name, tmp_path):
    tfds_name, classes = SETS[name]
    fine_grained.write(tfds_name, tmp_path, train=classes, test=9)
    run = experiment.prepare(reduce(config_of(name), tmp_path))
    assert (run.dataset.num_classes, run.dataset.num_train, run.dataset.num_test) == (
        classes,
        classes,
        9,
    )
    assert run.task.fan_in_axes()["head"]["kernel"].axes == (0,)
    with run.dataset.train_batches(0) as batches:
        batch = next(batches)
    assert batch.inputs.shape == (8, 16, 16, 3)
    assert batch.inputs.std() > 10
    assert set(batch.labels.tolist()) <= set(range(classes))


@pytest.mark.slow
def test_image_folder_trains(tmp_path):
    fine_grained.write_folder(tmp_path / "aircraft", train_per_class=1)
    config = reduce(config_of("aircraft_gc"), tmp_path / "aircraft")
    summary = train(config, tmp_path / "run")
    assert summary["steps"] == 2
    assert 0 < summary["gc_removed_fraction"] < 1
    assert summary["test_top1"] * 100 == pytest.approx(round(summary["test_top1"] * 100))


def test_empty_crop_scale_is_center_crop():
    content = jpeg(np.random.default_rng(1), 60, 50)
    crop = crops.random_resized_crop(content, np.random.default_rng(2), 32, ())
    np.testing.assert_array_equal(crop, crops.center_crop(content, 32))


def test_learning_rate_steps():
    config = config_of("cars196_gc")
    config.optimizer.name = "sgd"
    validate(config)
    run_plan = plan.make(config, 8144)
    rate = schedules.make_schedule(config, run_plan)
    drops = [round(epoch * 8144 / 128) for epoch in (50, 80)]
    rates = [float(rate(step)) for last in drops for step in (last - 1, last)]
    np.testing.assert_allclose(rates, [0.1, 0.01, 0.01, 0.001], rtol=1e-6)
    assert run_plan.total_steps > drops[1]
    config.schedule.step_at = (1.0, 1e30)  # more steps than can be counted
    assert float(schedules.make_schedule(config, run_plan)(run_plan.total_steps)) == pytest.approx(
        0.01
    )
