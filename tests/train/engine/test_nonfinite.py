"""Numbers that are not finite stop a run, or are skipped, as the config says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.processes import metrics, run
from train import experiment
from train.config import default_config, validate
from train.data.batch import Batch
from train.engine.nonfinite import raise_if_nonfinite
from train.engine.state import create, named_leaves
from train.engine.step import make_train_step
from train.errors import UserError
from train.models import Model

BAD_PIXEL = 255  # an image that begins with it makes the model's output NaN
BATCH = 8


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
def test_a_run_that_diverges_stops_and_says_where(policy, expected, tmp_path):
    wild = ("--config.optimizer.learning_rate=1e30", "--config.schedule.warmup=0.0")
    few = ("--config.num_steps=40", "--config.log_every_steps=10")
    error = run(tmp_path, *wild, *few, *policy, status=2)
    assert error.count("\n") == 1
    assert error.startswith("error: not finite at step ")
    assert "conv1/kernel" in error
    assert expected in error
    assert not (tmp_path / "summary.json").exists()
    assert len(metrics(tmp_path)) == 0, "a line of such numbers says nothing"


def fragile(model):
    """The model, but one that answers NaN to a batch with a marked image."""

    def apply(params, stats, images, train, key=None):
        logits, stats = model.apply(params, stats, images, train, key)
        marked = (images[:, 0, 0, 0] > 0.99).any()  # 255 is 1 by the default mean and deviation
        poison = jnp.where(marked, jnp.nan, 1.0)
        return logits * poison, jax.tree.map(lambda leaf: leaf * poison, stats)

    return Model(model.init, apply, model.input_shape)


class Training:
    """A jitted step on the digits' net, and batches that are good or bad."""

    def __init__(self, **fields):
        config = default_config()
        config.data.batch_size, config.nan_policy = BATCH, "skip"
        config.update(fields)
        validate(config)
        self.config = config
        run_ = experiment.prepare(config)
        model = fragile(run_.model)
        self.state = create(model, run_.tx, 0)
        self.step = jax.jit(make_train_step(config, model, run_.tx, config.seed))
        self.shape = (BATCH, *model.input_shape)

    def batch(self, bad):
        images = np.random.Generator(np.random.Philox(int(bad))).integers(
            1, BAD_PIXEL - 1, self.shape, np.uint8
        )
        images[0, 0, 0, 0] = BAD_PIXEL if bad else 1
        return jax.device_put(
            Batch(images, np.arange(BATCH, dtype=np.int32), np.ones(BATCH, np.bool_))
        )

    def run(self, pattern):
        """Steps that are good (.) or bad (x)."""
        for mark in pattern:
            self.state = self.step(self.state, self.batch(mark == "x"))
        return self.state

    def check(self, latest_step=None):
        raise_if_nonfinite(
            self.state.nonfinite,
            list(named_leaves(self.state.params)),
            self.config,
            lambda: latest_step,
        )


def bits(*trees):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(trees)]


@pytest.fixture(scope="module")
def compiled():
    return Training(nan_limit=2)


@pytest.fixture
def training(compiled):
    fresh = Training.__new__(Training)
    fresh.__dict__ |= compiled.__dict__
    return fresh


def test_a_skipped_step_changes_nothing_but_the_count(training):
    before = training.run("..")
    after = training.run("x")
    kept = ("params", "stats", "opt_state", "sums")
    assert bits(*(getattr(before, name) for name in kept)) == bits(
        *(getattr(after, name) for name in kept)
    )
    assert int(after.step) == 3
    assert int(after.nonfinite.skipped) == 1
    assert int(after.nonfinite.first_step) == 2
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.params))
    then = training.run(".")
    assert bits(then.params) != bits(before.params)
    assert int(then.nonfinite.consecutive) == 0


def test_under_stop_the_bad_numbers_are_not_hidden():
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
        ("..xxx...", True),  # in between two looks at it
        ("x.x.x.x", False),
    ],
)
def test_skipping_stops_after_so_many_in_a_row(pattern, stops, training):
    training.run(pattern)
    if not stops:
        training.check()
        return
    first = pattern.index("x")
    with pytest.raises(UserError) as error:
        training.check(latest_step=40)
    assert f"not finite at step {first}: the loss, " in str(error.value)
    assert "more than 2 non-finite steps in a row" in str(error.value)
    assert "the last good checkpoint is 40" in str(error.value)
