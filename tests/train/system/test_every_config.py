"""Every file in `configs/` builds its model, has a fan-in for each kernel, and trains two steps.

The steps are those of the configured optimizer, on random data with the layout of the data set:
images of at most 64 pixels, two in a batch, ten classes. For the steps, ResNets are narrower and
shallower.
"""

import copy
import functools
import importlib
import pkgutil

import jax
import numpy as np
import pytest

import configs
from configs import study_claims
from tests.support import fine_grained
from train import data, experiment, models, tasks
from train.config import validate
from train.config.detection import is_detection
from train.data import inputs
from train.data.dataset import Dataset, Split
from train.engine import state
from train.models import resnet
from train.studies import design
from train.studies.config import validate_study

FILES = [module.name for module in pkgutil.iter_modules(configs.__path__)]
STUDIES = [name for name in FILES if name.startswith("study_")]
MAX_SIDE, BATCH_SIZE, NUM_CLASSES = 64, 2, 10
ARGUMENTS = [  # test_models.py tests those of cifar100_gc
    *(("imagenet_gc", argument) for argument in ("group", "resnet101", "resnet101,group")),
    ("mini_imagenet_gc", "group"),
    ("mini_imagenet_ws_gc", "batch"),
    ("cifar100_batch_gc", "2"),
    ("coco_faster_rcnn_gc", "resnext101_64x4d"),
    ("coco_mask_rcnn_gc", "resnet101,group"),
    ("study_cifar100_small", "decay"),
    ("study_cifar100_small", "axes"),
    ("study_cells", "nuclei"),
    *(
        ("study_claims", f"{part},{data}")
        for part in study_claims.PARTS
        for data in study_claims.DATA
    ),
]


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
    """Return a folder of images for the configs that read one: 100 classes, one image each."""
    folder = tmp_path_factory.mktemp("images")
    fine_grained.write_folder(folder, train_per_class=1)
    return folder


def training_configs(name, image_folder, *argument):
    """Return the config of a file; for a study, the configs of its arms with GC."""
    config = importlib.import_module(f"configs.{name}").get_config(*argument)
    if name.startswith("study_"):
        validate_study(config)
        arms = [design.arms(config, setting)[1] for setting in design.settings(config)]
        found = [design.trainer_config(config, arm, seed=0, rate=0.1) for arm in arms]
    else:
        found = [config]
    for each in found:
        validate(each)
        each.init_from = ""
        if each.data.name == "folder":
            each.data.dir, each.data.test_share = str(image_folder), 0.0
    return found


def describe(config):
    """Return a description of the data; for a subset, that of the whole set, to need no data."""
    whole = copy.deepcopy(config)
    whole.data.classes, whole.data.train_per_class = (), 0
    description = data.describe(whole)
    return description._replace(num_classes=len(config.data.classes) or description.num_classes)


def check_axes(config):
    """Check the fan-in axes of the full model for the real data; return its description."""
    description = describe(config)
    task = tasks.build(config, description)
    params, _ = jax.eval_shape(task.init, jax.random.key(0))
    axes = jax.tree.leaves(task.fan_in_axes())
    num_kernels = 0
    for (name, leaf), fan_in in zip(state.named_leaves(params).items(), axes, strict=True):
        if name.endswith("kernel"):
            num_kernels += 1
            assert fan_in.axes, name
            if leaf.ndim != 3:  # kernels of attention have an axis for the heads
                assert fan_in.axes == tuple(range(leaf.ndim - 1)), name
    assert num_kernels > 1
    return description


@pytest.mark.slow
@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_config_argument(name, argument, image_folder):
    for config in training_configs(name, image_folder, argument):
        check_axes(config)


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_study_has_fan_ins(name, image_folder):
    """Its training is that of the config that it starts from, with another optimizer or network."""
    for config in training_configs(name, image_folder):
        check_axes(config)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FILES if name not in STUDIES])
def test_config_trains_two_steps(name, image_folder, monkeypatch):
    (config,) = training_configs(name, image_folder)
    description = check_axes(config)
    config.data.batch_size = BATCH_SIZE
    config.data.image_size = 0
    config.precision = "float32"  # compiles faster on a CPU
    shrink_resnets(monkeypatch)
    if is_detection(config):
        shrink_detector(config)
        dataset = data.load(config)
    else:
        dataset = random_dataset(config, description)
    run = experiment.prepare(config, dataset, jax.devices()[:1])
    train_state = random_state(run)
    before = jax.device_get(train_state.params)
    executor = run.compile(train_state)
    train_state, metrics, _ = executor.steps(train_state, 0, 2)
    assert int(train_state.step) == 2
    assert np.isfinite(metrics.sums["loss"])
    assert metrics.sums["examples"] == 2 * BATCH_SIZE
    after = jax.device_get(train_state.params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
    assert state.sha256(after) != state.sha256(before)


def shrink_resnets(monkeypatch):
    """Give each stage two blocks: one that changes the shape, and one that does not."""
    for name, make in resnet.RESNETS.items():
        block, stage_sizes, widths = make.args
        small_widths = tuple(max(8, width // 8) for width in widths)
        small = functools.partial(make.func, block, (2,) * len(stage_sizes), small_widths)
        monkeypatch.setitem(models.MODELS, name, small)


def shrink_detector(config):
    """Let a detector with the small backbone learn digits."""
    config.data.name, config.optimizer.freeze = "digits_detection", ()
    detection = config.detection
    detection.update(backbone="small", anchor_sizes=(12.0, 24.0, 48.0), tile=0)
    detection.update(short_side=MAX_SIDE, long_side=MAX_SIDE, max_objects=5, mask_size=14)
    detection.train_proposals = detection.test_proposals = 16
    detection.update(rpn_samples=16, box_samples=16)


def random_dataset(config, description):
    rng = np.random.default_rng(0)
    shape, num_values = description.input_shape, config.data.vocabulary or 256
    if not inputs.is_text(config):
        shape = *(min(side, MAX_SIDE) for side in shape[:2]), shape[2]
    examples = rng.integers(0, num_values, (2 * BATCH_SIZE, *shape), inputs.dtype(config))
    labels = rng.integers(0, NUM_CLASSES, 2 * BATCH_SIZE).astype(np.int32)
    split = Split(examples, labels)
    return Dataset(split, split, NUM_CLASSES)


def random_state(run):
    """Return a first state with weights from NumPy: the real initialization is slow to compile."""
    params, stats = jax.eval_shape(run.task.init, jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.05, leaf.shape).astype(leaf.dtype), params)
    stats = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), stats)
    first = state.create(lambda key: (params, stats), run.task.metrics, run.optimizer, 0)
    return jax.tree.map(lambda leaf: jax.device_put(np.array(leaf), run.sharding.replicated), first)
