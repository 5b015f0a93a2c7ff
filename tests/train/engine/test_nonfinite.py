"""Non-finite values stop a run or are skipped, as `config.nan_policy` says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_gc import FanIn
from tests.support.processes import metrics
from tests.support.training import train_here
from train import experiment
from train.config import default_config, validate
from train.data.batch import Batch
from train.engine import nonfinite
from train.engine.nonfinite import raise_if_nonfinite
from train.engine.state import create, named_leaves
from train.engine.step import make_train_step
from train.errors import UserError
from train.tasks.classification import Classification

NAN_PIXEL = 255  # an image whose first pixel has this value makes the model's output NaN
BATCH_SIZE = 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (("--config.nan_policy=stop",), "; nothing was saved; lower the learning rate"),
        (
            ("--config.nan_policy=skip", "--config.nan_limit=3"),
            ", then more than 3 non-finite steps in a row; nothing was saved",
        ),
    ],
)
def test_diverging_run_stops(policy, expected, tmp_path):
    large_rate = ("--config.optimizer.learning_rate=1e30", "--config.schedule.warmup=0.0")
    few_steps = ("--config.num_steps=40", "--config.log_every_steps=10")
    with pytest.raises(UserError, match="not finite at step ") as error:
        train_here(tmp_path, *large_rate, *few_steps, *policy)
    assert "conv1/kernel" in str(error.value)
    assert expected in str(error.value)
    assert not (tmp_path / "summary.json").exists()
    assert metrics(tmp_path) == []


def nan_for_marked_images(model):
    """Return the model with NaN outputs and statistics for a batch with a marked image."""

    def apply(params, stats, images, train, key=None):
        logits, stats = model.apply(params, stats, images, train, key)
        is_marked = (images[:, 0, 0, 0] > 0.99).any()  # 255 becomes 1 by the default mean and std
        factor = jnp.where(is_marked, jnp.nan, 1.0)
        return logits * factor, jax.tree.map(lambda leaf: leaf * factor, stats)

    return model._replace(apply=apply)


class Training:
    """A jitted training step on the digits, for finite and non-finite batches."""

    def __init__(self, **fields):
        config = default_config()
        config.data.batch_size, config.nan_policy = BATCH_SIZE, "skip"
        config.update(fields)
        validate(config)
        run = experiment.prepare(config)
        model = nan_for_marked_images(run.task.model)
        task = Classification(config, model)
        self.config = config
        self.state = create(task.init, task.metrics, run.optimizer, 0)
        self.step = jax.jit(make_train_step(config, task, run.optimizer, config.seed))
        self.shape = (BATCH_SIZE, *model.input_shape)

    def batch(self, is_nan):
        rng = np.random.Generator(np.random.Philox(int(is_nan)))
        images = rng.integers(1, NAN_PIXEL - 1, self.shape, np.uint8)
        images[0, 0, 0, 0] = NAN_PIXEL if is_nan else 1
        labels = np.arange(BATCH_SIZE, dtype=np.int32)
        return jax.device_put(Batch(images, labels, np.ones(BATCH_SIZE, np.bool_)))

    def run(self, pattern):
        """Make a finite step for each "." and a non-finite one for each "x"."""
        for mark in pattern:
            self.state, _ = self.step(self.state, self.batch(mark == "x"))
        return self.state

    def check(self, latest_step=None):
        names = list(named_leaves(self.state.params))
        raise_if_nonfinite(self.state.nonfinite, names, self.config, lambda: latest_step)


def to_bytes(*trees):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(trees)]


@pytest.fixture(scope="module")
def compiled():
    return Training(nan_limit=2)


@pytest.fixture
def training(compiled):
    """Return a training at its first step, with the compiled step of the others."""
    fresh = Training.__new__(Training)
    fresh.__dict__ |= compiled.__dict__
    return fresh


def test_skipped_step_changes_only_counts(training):
    before = training.run("..")
    after = training.run("x")
    for name in ("params", "stats", "opt_state", "sums"):
        assert to_bytes(getattr(before, name)) == to_bytes(getattr(after, name)), name
    assert int(after.step) == 3
    assert int(after.nonfinite.skipped) == 1
    assert int(after.nonfinite.first_step) == 2
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.params))
    later = training.run(".")
    assert to_bytes(later.params) != to_bytes(before.params)
    assert int(later.nonfinite.consecutive) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("axes", [(), (0,), (0, 1)])
def test_every_nonfinite_leaf_is_found(axes, value):
    rng = np.random.default_rng(0)
    shapes = [(3, 5), (150, 200), (7, 2), *[(2, 2)] * 50]
    grads = [rng.normal(0, 1e20, shape).astype(np.float32) for shape in shapes]
    wrong = [0, 1, 30, len(shapes) - 1]
    for index in wrong:
        grads[index][-1, -1] = value
    state = nonfinite.init(grads)
    fan_ins = [FanIn(axes)] * len(grads)
    step, loss = jnp.int32(4), jnp.float32(1)
    after = jax.jit(lambda *args: nonfinite.update(*args, fan_ins))(state, step, loss, grads)
    assert np.flatnonzero(after.leaves).tolist() == [1 + index for index in wrong]
    assert int(after.first_step) == 4
    finite = [np.nan_to_num(leaf, posinf=0, neginf=0) for leaf in grads]
    assert int(nonfinite.update(state, step, loss, finite, fan_ins).consecutive) == 0
    assert int(nonfinite.update(state, step, loss + value, finite, fan_ins).consecutive) == 1


def test_stop_policy_keeps_nonfinite_values():
    training = Training(nan_policy="stop")
    training.run(".x")
    assert not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(training.state.params))
    with pytest.raises(UserError, match="not finite at step 1: the loss, conv1/kernel"):
        training.check(latest_step=1)


@pytest.mark.parametrize(
    ("pattern", "stops"),
    [
        ("....", False),
        ("x", False),
        ("xx", False),
        ("xxx", True),
        ("xx.xx.xx", False),
        ("..xxx...", True),  # finite again when the host checks
        ("x.x.x.x", False),
    ],
)
def test_skipping_stops_after_limit(pattern, stops, training):
    training.run(pattern)
    if not stops:
        training.check()
        return
    with pytest.raises(UserError) as error:
        training.check(latest_step=40)
    assert f"not finite at step {pattern.index('x')}: the loss, " in str(error.value)
    assert "more than 2 non-finite steps in a row" in str(error.value)
    assert "the last good checkpoint is 40" in str(error.value)
