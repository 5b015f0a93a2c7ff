"""Every file in `configs/`: its net is built, its axes are found, and it trains for two steps.

The steps are real ones of the configured net and optimizer, on a stand-in of the data set that has
its layout and its classes: images no larger than 64 pixels, two in a batch.
"""

import importlib
import pkgutil

import jax
import numpy as np
import pytest

import configs
from tests.support import fine_grained
from train import data, experiment, models
from train.config import validate
from train.data import inputs
from train.data.dataset import Dataset, Split
from train.engine import state
from train.studies import design
from train.studies.config import validate_study

FILES = [module.name for module in pkgutil.iter_modules(configs.__path__)]
LARGEST_SIDE, BATCH = 64, 2
ARGUMENTS = [  # those of cifar100_gc are tested in test_models.py
    *(("imagenet_gc", words) for words in ("group", "resnet101", "resnet101,group")),
    ("mini_imagenet_gc", "group"),
    ("mini_imagenet_ws_gc", "batch"),
    ("cifar100_batch_gc", "2"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """For configs that read a folder of images: 100 classes, one image each."""
    folder = tmp_path_factory.mktemp("images")
    fine_grained.write_folder(folder, train_per_class=1)
    return folder


def trainer_configs(name, folder, *argument):
    """The config of a file; of a study's, those of its pairs with GC."""
    config = importlib.import_module(f"configs.{name}").get_config(*argument)
    if name.startswith("study_"):
        validate_study(config)
        arms = [design.arms(config, setting)[1] for setting in design.settings(config)]
        made = [design.trainer_config(config, arm, seed=0, rate=0.1) for arm in arms]
    else:
        made = [config]
    for each in made:
        validate(each)
        each.init_from = ""
        if each.data.name == "folder":
            each.data.dir = str(folder)
    return made


def covered(config):
    """Builds the net for the true data, and checks that each conv and dense kernel has its axes."""
    known = data.describe(config)
    model = models.build(config, known.num_classes, known.input_shape)
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    axes = jax.tree.leaves(models.fan_in_axes(model))
    kernels = 0
    for (name, leaf), fan_in in zip(state.named_leaves(params).items(), axes, strict=True):
        if name.endswith("kernel"):
            kernels += 1
            assert fan_in.axes, name
            if leaf.ndim != 3:  # that of attention, which has an axis for its heads
                assert fan_in.axes == tuple(range(leaf.ndim - 1)), name
    assert kernels > 1
    return known


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_every_net_that_a_file_can_be_asked_for_is_covered(name, argument, folder):
    for config in trainer_configs(name, folder, argument):
        covered(config)


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_covered_and_takes_two_steps(name, folder):
    made = trainer_configs(name, folder)
    known = [covered(config) for config in made]
    config, known = made[0], known[0]
    config.data.batch_size = BATCH
    config.data.image_size = 0
    config.precision = "float32"  # which takes a CPU less time to compile
    run = experiment.prepare(config, stand_in(config, known), jax.devices()[:1])
    now = some_state(run)
    before = jax.device_get(now.params)
    now, figures = run.compile(now).train(now, 0, 2)
    assert int(now.step) == 2
    assert np.isfinite(figures.sums.loss)
    assert figures.sums.examples == 2 * BATCH
    assert (figures.removed_fraction > 0) == (config.gc.mode != "none")
    after = jax.device_get(now.params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
    assert state.sha256(after) != state.sha256(before)


def stand_in(config, known):
    rng = np.random.default_rng(0)
    shape, values = known.input_shape, config.data.vocabulary or 256
    if not inputs.is_text(config):
        shape = *(min(side, LARGEST_SIDE) for side in shape[:2]), shape[2]
    examples = rng.integers(0, values, (2 * BATCH, *shape), inputs.dtype(config))
    split = Split(examples, rng.integers(0, known.num_classes, 2 * BATCH).astype(np.int32))
    return Dataset(split, split, known.num_classes)


def some_state(run):
    """A first state whose weights NumPy drew: to compile the real ones takes longer than a step."""
    params, stats = jax.eval_shape(run.model.init, jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.05, leaf.shape).astype(leaf.dtype), params)
    stats = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), stats)
    model = run.model._replace(init=lambda key: (params, stats))
    first = state.create(model, run.tx, 0)
    return jax.tree.map(lambda leaf: jax.device_put(np.array(leaf), run.sharding.replicated), first)
