"""Training on a data set that is stored on the devices; the host sends only step numbers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from ml_collections import ConfigDict
from numpy.typing import ArrayLike

from train.data import class_counts
from train.data.batch import Examples, gather_batch, put_split
from train.data.class_counts import ClassCounts
from train.data.dataset import InMemoryDataset
from train.data.order import two_epochs
from train.engine.averaging import eval_params
from train.engine.evaluation import ResidentEvaluator, test_evaluator
from train.engine.optimizers import Measures
from train.engine.state import TrainState
from train.engine.step import StepFunctions, StepMetrics
from train.runtime import compilation
from train.runtime.compilation import Cost
from train.runtime.mesh import Sharding
from train.tasks.task import MetricSums, Task

TrainSteps = Callable[
    [TrainState, Examples, jax.Array, jax.Array], tuple[TrainState, StepMetrics, Any]
]


def make_train_steps(
    functions: StepFunctions, batch_size: int, sharding: NamedSharding | None
) -> TrainSteps:
    """Return several steps as one pure function: gather a batch, make a step, repeat.

    The third argument of the function is the order of the examples from the start of an epoch. The
    last one is int32, (2,): how many of these examples are done, and how many steps to make. The
    number of steps is not compiled in, so every number uses the same program and gives the same
    bits. It returns the state, its metrics, and the gradient of the last step.
    """

    def train_steps(
        state: TrainState, split: Examples, order: jax.Array, offset_and_count: jax.Array
    ) -> tuple[TrainState, StepMetrics, Any]:
        offset, count = offset_and_count
        mask = jnp.ones(batch_size, bool)

        def step(index: jax.Array, last: tuple[TrainState, Any]) -> tuple[TrainState, Any]:
            ids = jax.lax.dynamic_slice_in_dim(order, offset + index * batch_size, batch_size)
            return functions.train(last[0], gather_batch(split, ids, mask, sharding))

        no_grads = jax.tree.map(jnp.zeros_like, state.params)
        state, grads = jax.lax.fori_loop(0, count, step, (state, no_grads))
        return state, functions.metrics(state), grads

    return train_steps


class ResidentExecutor:
    """The compiled programs of a run whose data set is stored on the devices.

    Attributes:
      cost: The compiler's figures for one step.
    """

    cost: Cost

    def __init__(
        self,
        config: ConfigDict,
        dataset: InMemoryDataset,
        sharding: Sharding,
        task: Task,
        functions: StepFunctions,
        state: TrainState,
    ):
        """Copy the data set to the devices and compile for states like `state`."""
        self._batch_size = config.data.batch_size
        self._num_train = dataset.num_train
        self._replicated = sharding.replicated
        self._train_split = put_split(dataset.train, sharding.replicated)
        self._classes = class_counts.for_sampling(config, dataset)
        if self._classes:
            counts = self._replicate(self._classes.counts)
            split: Any = self._train_split
            self._classes = ClassCounts(split.labels, counts)
        self._make_order = jax.jit(
            lambda epoch, classes: two_epochs(config.seed, epoch[0], self._num_train, classes),
            out_shardings=sharding.replicated,
        )
        self._order = -1, jnp.zeros(0)  # no epoch yet
        train_steps = make_train_steps(functions, self._batch_size, sharding.batch)
        self._train_steps, self.cost = compilation.compile_program(
            jax.jit(train_steps, donate_argnums=0, out_shardings=sharding.replicated),
            state,
            self._train_split,
            self._order_from(int(state.step) * self._batch_size // self._num_train),
            self._replicate([0, 0]),
        )
        self._measure = compilation.jit(functions.measure, sharding.replicated)
        self._evaluator = test_evaluator(task, dataset, config, sharding)
        self._train_evaluator = ResidentEvaluator(
            task, self._train_split, config.eval.batch_size, sharding, config.seed
        )

    def close(self) -> None:
        """Do nothing: nothing reads ahead."""

    def max_dispatch_step(self, step: int) -> int:
        """Return the last step that one dispatch can reach from `step`: two epochs of order."""
        epoch = step * self._batch_size // self._num_train
        return (epoch + 2) * self._num_train // self._batch_size

    def steps(
        self, state: TrainState, start: int, stop: int
    ) -> tuple[TrainState, StepMetrics, Any]:
        """Dispatch the steps from `start` to `stop`; donates `state`."""
        epoch, offset = divmod(start * self._batch_size, self._num_train)
        order, offset_and_count = self._order_from(epoch), self._replicate([offset, stop - start])
        return self._train_steps(state, self._train_split, order, offset_and_count)

    def measure(self, before: TrainState, grads: Any) -> Measures:
        """Return the measures of a step."""
        return self._measure(before, grads)

    def evaluate(self, state: TrainState) -> dict[str, MetricSums]:
        """Return the sums over the test split of each evaluation of the task."""
        return self._evaluator.evaluate(eval_params(state.opt_state, state.params), state.stats)

    def evaluate_train(self, state: TrainState) -> MetricSums:
        """Return the sums over the training split, without augmentation."""
        params = eval_params(state.opt_state, state.params)
        return self._train_evaluator.add_up(params, state.stats)

    def predict(self, state: TrainState) -> Any:
        """Return the outputs for the whole test split."""
        return self._evaluator.predict(eval_params(state.opt_state, state.params), state.stats)

    def _order_from(self, epoch: int) -> jax.Array:
        """Return the order of an epoch and the next one; cached, as dispatches are shorter."""
        if self._order[0] != epoch:
            self._order = epoch, self._make_order(self._replicate([epoch]), self._classes)
        return self._order[1]

    def _replicate(self, numbers: ArrayLike) -> jax.Array:
        array = np.asarray(numbers, np.int32)
        return jax.make_array_from_callback(array.shape, self._replicated, lambda _: array)
