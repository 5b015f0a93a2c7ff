"""Training on a data set that lies on the devices: the host only says from where to where."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from train.data.batch import Batch, Examples, take, to_devices
from train.data.dataset import Dataset
from train.data.order import two_epochs
from train.engine.figures import StepMetrics
from train.engine.optimizers import eval_params
from train.engine.predictions import Predictions, on_host
from train.engine.state import MetricSums, TrainState
from train.engine.step import BatchPredictions, EvalStep, PredictStep, Steps
from train.runtime import compilation
from train.runtime.compilation import Cost
from train.runtime.mesh import Sharding

TrainSteps = Callable[[TrainState, Examples, jax.Array, jax.Array], tuple[TrainState, StepMetrics]]


def make_train_steps(steps: Steps, batch_size: int, sharding: NamedSharding | None) -> TrainSteps:
    """Several steps as one pure function: gather, and all that a step does.

    The function's third argument is the order of examples from an epoch's begin, the last is int32,
    (2,): how many of them are done, and how many steps to make. How many is not compiled in, so all
    numbers of steps are one program and give the same bits.
    """

    def train_steps(state: TrainState, examples: Examples, order: jax.Array, where: jax.Array):
        place, count = where
        mask = jnp.ones(batch_size, bool)

        def step(index: jax.Array, state: TrainState) -> TrainState:
            start = place + index * batch_size
            ids = jax.lax.dynamic_slice_in_dim(order, start, batch_size)
            return steps.train(state, take(examples, ids, mask, sharding))

        state = jax.lax.fori_loop(0, count, step, state)
        return state, steps.figures(state)

    return train_steps


def make_evaluate(
    eval_step: EvalStep, batch_size: int, num_examples: int, sharding: NamedSharding | None
) -> Callable[[TrainState, Examples], MetricSums]:
    """A whole split as one pure function, every example counted exactly once."""

    def evaluate(state: TrainState, examples: Examples) -> MetricSums:
        params = eval_params(state.opt_state, state.params)

        def one_batch(index: jax.Array, sums: MetricSums) -> MetricSums:
            batch = _in_order(examples, index, batch_size, num_examples, sharding)
            return eval_step(params, state.stats, sums, batch)

        return jax.lax.fori_loop(0, -(-num_examples // batch_size), one_batch, MetricSums.zeros())

    return evaluate


def make_predict(
    predict_step: PredictStep, batch_size: int, num_examples: int, sharding: NamedSharding | None
) -> Callable[[TrainState, Examples, jax.Array], BatchPredictions]:
    """The answers to a batch of a split as one pure function; its last argument is which batch."""

    def predict(state: TrainState, examples: Examples, index: jax.Array) -> BatchPredictions:
        params = eval_params(state.opt_state, state.params)
        batch = _in_order(examples, index, batch_size, num_examples, sharding)
        return predict_step(params, state.stats, batch)

    return predict


def _in_order(
    examples: Examples,
    index: jax.Array,
    batch_size: int,
    num_examples: int,
    sharding: NamedSharding | None,
) -> Batch:
    """A batch of a split in its order; the last one is padded."""
    ids = index * batch_size + jnp.arange(batch_size)
    mask = ids < num_examples
    return take(examples, jnp.where(mask, ids, 0), mask, sharding)


class ResidentExecutor:
    """The compiled programs of a run whose data set lies on the devices, and that data set.

    Attributes:
      cost: what the compiler says of one step.
    """

    cost: Cost

    def __init__(
        self,
        config: ConfigDict,
        dataset: Dataset,
        sharding: Sharding,
        steps: Steps,
        like: TrainState,
    ):
        """Puts the data set on the devices, and compiles for states like `like`."""
        self._batch_size = config.data.batch_size
        self._num_train, num_test = dataset.num_train, dataset.num_test
        self._replicated = sharding.replicated
        self._train_split = to_devices(dataset.train, sharding.replicated)
        self._test_split = to_devices(dataset.test, sharding.replicated)
        self._make_order = jax.jit(
            lambda epoch: two_epochs(config.seed, epoch[0], self._num_train),
            out_shardings=sharding.replicated,
        )
        self._order = -1, jnp.zeros(0)  # of no epoch
        train_steps = make_train_steps(steps, self._batch_size, sharding.batch)
        self._train_steps, self.cost = compilation.compiled(
            jax.jit(train_steps, donate_argnums=0, out_shardings=sharding.replicated),
            like,
            self._train_split,
            self._order_from(int(like.step) * self._batch_size // self._num_train),
            self._everywhere([0, 0]),
        )
        eval_batch = sharding.round_up(min(config.eval.batch_size, num_test))
        self._test_batches = range(-(-num_test // eval_batch))
        predict = make_predict(steps.predict, eval_batch, num_test, sharding.batch)
        self._predict = jax.jit(
            predict, out_shardings=sharding.replicated, compiler_options=compilation.options()
        )
        self._evaluate = [
            jax.jit(
                make_evaluate(eval_step, eval_batch, num_test, sharding.batch),
                out_shardings=sharding.replicated,
                compiler_options=compilation.options(),
            )
            for eval_step in (steps.evaluate, steps.evaluate_attacked)
            if eval_step
        ]

    def close(self) -> None:
        """Has nothing to end."""

    def reach(self, step: int) -> int:
        """The last step that `train` can go to from `step`."""
        epoch = step * self._batch_size // self._num_train
        return (epoch + 2) * self._num_train // self._batch_size

    def train(self, state: TrainState, first: int, last: int) -> tuple[TrainState, StepMetrics]:
        """Dispatches the steps after `first` up to `last`; overwrites `state`."""
        epoch, place = divmod(first * self._batch_size, self._num_train)
        order, where = self._order_from(epoch), self._everywhere([place, last - first])
        return self._train_steps(state, self._train_split, order, where)

    def evaluate(self, state: TrainState, attacked: bool = False) -> MetricSums:
        """The sums over the test split, as it is or under the attack of `config.adversary`."""
        return self._evaluate[attacked](state, self._test_split)

    def predict(self, state: TrainState) -> Predictions:
        """The answers to the whole test split."""
        return on_host(
            self._predict(state, self._test_split, self._everywhere(index))
            for index in self._test_batches
        )

    def _order_from(self, epoch: int) -> jax.Array:
        """The order of an epoch and the next one; kept, because a dispatch takes less than both."""
        if self._order[0] != epoch:
            self._order = epoch, self._make_order(self._everywhere([epoch]))
        return self._order[1]

    def _everywhere(self, numbers: int | list[int]) -> jax.Array:
        array = np.array(numbers, np.int32)
        return jax.make_array_from_callback(array.shape, self._replicated, lambda _: array)
