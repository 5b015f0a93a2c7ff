"""Several steps in one dispatch, over a data set that lies on the devices."""

import itertools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.support.processes import result, run
from train import experiment
from train.config import default_config
from train.data.batch import Batch, DeviceSplit, put_split
from train.data.dataset import Split
from train.data.order import epoch_end, epoch_order, two_epochs
from train.engine.resident import make_evaluate, make_train_steps
from train.engine.state import MetricSums
from train.engine.step import StepFunctions
from train.runtime import mesh

SEED = 3


def numbered(count):
    """A split whose labels are the examples' numbers, and pixels too."""
    ids = np.arange(count, dtype=np.int32)
    return Split(ids.astype(np.uint8)[:, None, None, None], ids)


class Recorder:
    """The compiled loop around a step that writes down which examples it was given."""

    def __init__(self, num_examples, batch_size, total_steps):
        config = default_config()
        config.data.batch_size = batch_size
        self.num_examples, self.batch_size = num_examples, batch_size
        batch = mesh.make_sharding(config).batch if batch_size % 8 == 0 else None
        one_device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        self.split = DeviceSplit(*map(jnp.asarray, numbered(num_examples)))
        self.seen = jnp.full((total_steps, batch_size), -1, jnp.int32)
        steps = StepFunctions(
            self.record, metrics=lambda state: state.step, evaluate=None, predict=None
        )
        self.loop = jax.jit(make_train_steps(steps, batch_size, batch or one_device))

    @staticmethod
    def record(state, batch: Batch):
        images = batch.inputs[:, 0, 0, 0].astype(jnp.int32)
        labels = jnp.where(images == batch.labels % 256, batch.labels, -2)
        return state._replace(step=state.step + 1, params=state.params.at[state.step].set(labels))

    def steps(self, pieces):
        """The examples of each step, run in such pieces."""
        state = like_a_state(self.seen)
        for first, last in itertools.pairwise(pieces):
            epoch, place = divmod(first * self.batch_size, self.num_examples)
            order = two_epochs(SEED, epoch, self.num_examples)
            state, _ = self.loop(state, self.split, order, jnp.array([place, last - first]))
        return np.asarray(state.params)


def like_a_state(seen):
    empty = jax.device_get(experiment.prepare(default_config()).init_state())
    return empty._replace(params=seen, opt_state=(), step=jnp.zeros((), jnp.int32))


@pytest.mark.parametrize(("num_examples", "batch_size"), [(50, 7), (50, 50), (64, 16), (300, 8)])
def test_every_epoch_has_every_example_once_however_the_steps_are_cut(num_examples, batch_size):
    epochs = 4
    total = epoch_end(epochs, batch_size, num_examples)
    recorder = Recorder(num_examples, batch_size, total)
    single = recorder.steps(range(total + 1))
    for epoch in range(epochs):
        of_epoch = single.ravel()[epoch * num_examples : (epoch + 1) * num_examples]
        np.testing.assert_array_equal(of_epoch, epoch_order(SEED, epoch, num_examples))
        assert sorted(of_epoch) == list(range(num_examples))
    assert (
        len(
            {
                np.asarray(epoch_order(SEED, epoch, num_examples)).tobytes()
                for epoch in range(epochs)
            }
        )
        == epochs
    )

    reach = num_examples // batch_size  # an epoch at a time is always within reach
    rng = np.random.default_rng(0)
    for _ in range(5):
        cuts = {0, total} | set(rng.integers(0, total, total // 2 + 1).tolist())
        pieces = sorted(cuts | set(range(0, total, max(1, reach))))
        np.testing.assert_array_equal(recorder.steps(pieces), single)


def test_the_reach_of_a_dispatch_is_within_two_epochs_and_ahead():
    config = default_config()
    config.data.batch_size = 96
    run_ = experiment.prepare(config)
    programs = run_.compile(run_.init_state())
    num_train = run_.dataset.num_train
    for step in range(200):
        last, epoch = programs.max_dispatch_step(step), step * 96 // num_train
        assert step < last
        assert last * 96 <= (epoch + 2) * num_train < (last + 1) * 96


def test_a_dispatch_does_not_wait_for_the_device():
    config = default_config()
    config.data.batch_size = 8
    run_ = experiment.prepare(config)
    state = run_.init_state()
    programs = run_.compile(state)
    with jax.transfer_guard_device_to_host("disallow"):
        state, figures = programs.train(state, 0, 3)
        state, figures = programs.train(state, 3, 5)
    assert int(state.step) == 5
    assert float(figures.sums.examples) == 5 * 8


@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_the_length_of_a_dispatch_changes_no_bit(steps, whole_run, tmp_path):
    run(tmp_path, *SETTINGS, f"--config.steps_per_dispatch={steps}")
    assert result(tmp_path) == whole_run


SETTINGS = ("--config.num_steps=60", "--config.log_every_steps=13", "--config.eval.every_epochs=1")


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """The result of a run that finds its pace by itself."""
    workdir = tmp_path_factory.mktemp("whole")
    run(workdir, *SETTINGS)
    return result(workdir)


@hypothesis.given(num_examples=st.integers(1, 70), eighths=st.integers(1, 5))
@hypothesis.settings(deadline=None, max_examples=8)
def test_evaluation_counts_every_example_once(num_examples, eighths):
    sharding = mesh.make_sharding(default_config())

    def count(params, stats, sums, batch):
        del params, stats
        weight, label = batch.mask.astype(jnp.float32), batch.labels.astype(jnp.float32)
        return jax.tree.map(
            jnp.add, sums, MetricSums(*(jnp.sum(weight * label**power) for power in range(4)))
        )

    compiled = jax.jit(make_evaluate(count, 8 * eighths, num_examples, sharding.batch))
    split = put_split(numbered(num_examples), sharding.replicated)
    sums = compiled(like_a_state(()), split)
    ids = np.arange(num_examples, dtype=np.float64)
    np.testing.assert_allclose(sums, [np.sum(ids**power) for power in range(4)], rtol=1e-5)
