"""Several steps in one dispatch, on a data set that is stored on the devices."""

import itertools

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.support.processes import result
from tests.support.training import train_here
from train import experiment
from train.config import default_config
from train.data.batch import Batch, put_split
from train.data.dataset import Split
from train.data.order import epoch_end, epoch_order, two_epochs
from train.engine.evaluation import make_evaluate
from train.engine.resident import make_train_steps
from train.engine.step import StepFunctions
from train.runtime import mesh
from train.tasks.task import Evaluation

pytestmark = pytest.mark.slow

SEED = 3


def numbered_split(num_examples):
    """Return a split whose labels and pixels are the numbers of the examples."""
    ids = np.arange(num_examples, dtype=np.int32)
    return Split(ids.astype(np.uint8)[:, None, None, None], ids)


def empty_state(params):
    """Return a training state with other parameters and without an optimizer state."""
    state = jax.device_get(experiment.prepare(default_config()).init_state())
    return state._replace(params=params, opt_state=(), step=jnp.zeros((), jnp.int32))


class Recorder:
    """The compiled loop around a step that records the examples of its batch."""

    def __init__(self, num_examples, batch_size, total_steps):
        config = default_config()
        config.data.batch_size = batch_size
        self.num_examples, self.batch_size = num_examples, batch_size
        one_device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        sharding = one_device if batch_size % 8 else mesh.make_sharding(config).batch
        self.split = Split(*map(jnp.asarray, numbered_split(num_examples)))
        self.state = empty_state(jnp.full((total_steps, batch_size), -1, jnp.int32))
        functions = StepFunctions(
            self.record,
            metrics=lambda state: state.step,
            measure=None,
        )
        self.train_steps = jax.jit(make_train_steps(functions, batch_size, sharding))

    @staticmethod
    def record(state, batch: Batch):
        images = batch.inputs[:, 0, 0, 0].astype(jnp.int32)
        labels = jnp.where(images == batch.labels % 256, batch.labels, -2)
        params = state.params.at[state.step].set(labels)
        return state._replace(step=state.step + 1, params=params), params

    def run(self, dispatch_ends):
        """Return the examples of each step, with a dispatch from each of some steps to the next."""
        state = self.state
        for start, stop in itertools.pairwise(dispatch_ends):
            epoch, offset = divmod(start * self.batch_size, self.num_examples)
            order = two_epochs(SEED, epoch, self.num_examples)
            state, *_ = self.train_steps(
                state, self.split, order, jnp.array([offset, stop - start])
            )
        return np.asarray(state.params)


@pytest.mark.parametrize(("num_examples", "batch_size"), [(50, 7), (50, 50), (64, 16), (300, 8)])
def test_examples_do_not_depend_on_dispatches(num_examples, batch_size):
    num_epochs = 4
    total = epoch_end(num_epochs, batch_size, num_examples)
    recorder = Recorder(num_examples, batch_size, total)
    expected = recorder.run(range(total + 1))
    orders = [epoch_order(SEED, epoch, num_examples) for epoch in range(num_epochs)]
    np.testing.assert_array_equal(
        expected.ravel()[: num_epochs * num_examples], np.concatenate(orders)
    )
    assert all(sorted(order.tolist()) == list(range(num_examples)) for order in orders)
    assert len({np.asarray(order).tobytes() for order in orders}) == num_epochs

    longest = max(1, num_examples // batch_size)  # a dispatch of an epoch is always possible
    rng = np.random.default_rng(0)
    for _ in range(5):
        random_ends = rng.integers(0, total, total // 2 + 1).tolist()
        ends = sorted({0, total, *random_ends, *range(0, total, longest)})
        np.testing.assert_array_equal(recorder.run(ends), expected)


@pytest.fixture(scope="module")
def digits_run():
    """Return a run on the digits with its executor; the batch does not divide an epoch."""
    config = default_config()
    config.data.batch_size = 96
    run = experiment.prepare(config)
    return run, run.compile(run.init_state())


def test_dispatch_ends_within_two_epochs(digits_run):
    run, executor = digits_run
    num_train = run.dataset.num_train
    for step in range(200):
        last, epoch = executor.max_dispatch_step(step), step * 96 // num_train
        assert step < last
        assert last * 96 <= (epoch + 2) * num_train < (last + 1) * 96


def test_dispatch_does_not_wait(digits_run):
    run, executor = digits_run
    state = run.init_state()
    with jax.transfer_guard_device_to_host("disallow"):
        state, metrics, _ = executor.steps(state, 0, 3)
        state, metrics, _ = executor.steps(state, 3, 5)
    assert int(state.step) == 5
    assert float(metrics.sums["examples"]) == 5 * 96


SETTINGS = ("--config.num_steps=60", "--config.log_every_steps=13", "--config.eval.every_epochs=1")


@pytest.fixture(scope="module")
def measured_result(tmp_path_factory):
    """Return the result of a run that measures the length of its dispatches."""
    workdir = tmp_path_factory.mktemp("measured")
    train_here(workdir, *SETTINGS)
    return result(workdir)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_result_does_not_depend_on_dispatches(steps, measured_result, tmp_path):
    train_here(tmp_path, *SETTINGS, f"--config.steps_per_dispatch={steps}")
    assert result(tmp_path) == measured_result


POWERS = {"examples": 0, "sum": 1, "squares": 2, "cubes": 3}


@hypothesis.given(num_examples=st.integers(1, 70), examples_per_device=st.integers(1, 5))
@hypothesis.settings(deadline=None, max_examples=8)
def test_evaluation_counts_each_example_once(num_examples, examples_per_device):
    sharding = mesh.make_sharding(default_config())

    def sum_powers(params, stats, sums, batch):
        del params, stats
        weight, label = batch.mask.astype(jnp.float32), batch.labels.astype(jnp.float32)
        return {name: sums[name] + jnp.sum(weight * label**power) for name, power in POWERS.items()}

    batch_size = 8 * examples_per_device
    evaluation = Evaluation(("sum", "squares", "cubes"), sum_powers)
    evaluate = jax.jit(make_evaluate(evaluation, batch_size, num_examples, sharding.batch))
    split = put_split(numbered_split(num_examples), sharding.replicated)
    sums = evaluate((), (), split)
    ids = np.arange(num_examples, dtype=np.float64)
    expected = {name: np.sum(ids**power) for name, power in POWERS.items()}
    chex.assert_trees_all_close(sums, expected, rtol=1e-5)
