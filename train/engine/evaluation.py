"""Evaluation and prediction of a whole split; needs neither an optimizer nor a training state."""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from train.data.batch import Examples, gather_batch, put_split
from train.engine import predictions
from train.runtime import compilation, distributed
from train.runtime.mesh import Sharding
from train.tasks.task import Evaluation, MetricSums, Task, zero_sums

if TYPE_CHECKING:
    from train.data.streaming.batch_iterator import BatchIterator

OpenBatches = Callable[[int], "BatchIterator"]
"""Returns the batches of a split in order, for a batch size."""


class Evaluator(Protocol):
    """The compiled programs that evaluate a split."""

    def evaluate(self, params: Any, stats: Any) -> dict[str, MetricSums]:
        """Return the sums over the split of each evaluation of the task."""

    def predict(self, params: Any, stats: Any) -> Any:
        """Return the outputs for the whole split on the host, the same in every process."""


def test_evaluator(
    task: Task, dataset: Any, config: ConfigDict, sharding: Sharding
) -> "ResidentEvaluator | StreamingEvaluator":
    """Return what evaluates the test split: arrays, or batches that the host reads."""
    batch_size = config.eval.batch_size
    if hasattr(dataset, "test_batches"):
        batch_size = sharding.round_up(min(batch_size, dataset.num_test))
        return StreamingEvaluator(task, dataset.test_batches, batch_size, sharding, config.seed)
    split = put_split(dataset.test, sharding.replicated)
    return ResidentEvaluator(task, split, batch_size, sharding, config.seed)


class ResidentEvaluator:
    """Evaluates a split that is stored on the devices; see `Evaluator`."""

    def __init__(
        self,
        task: Task,
        split: Examples,
        batch_size: int,
        sharding: Sharding,
        seed: jax.typing.ArrayLike,
    ):
        """Prepare the programs, which the first call compiles.

        Args:
          task: The task.
          split: The split.
          batch_size: The wanted batch size; rounded up to a multiple of the number of devices.
          sharding: The devices.
          seed: The seed of attacks.
        """
        num_examples = split.num_examples
        batch_size = sharding.round_up(min(batch_size, num_examples))
        self._split = split
        self._num_batches = -(-num_examples // batch_size)
        self._replicate = sharding.replicate
        self._evaluate = {
            prefix: compilation.jit(
                make_evaluate(evaluation, batch_size, num_examples, sharding.batch),
                sharding.replicated,
            )
            for prefix, evaluation in task.evaluations(seed).items()
        }

        def predict(params: Any, stats: Any, split: Examples, index: jax.Array) -> Any:
            batch = _ordered_batch(split, index, batch_size, num_examples, sharding.batch)
            return task.predict(params, stats, batch), batch.mask

        self._predict = compilation.jit(predict, sharding.replicated)

    def evaluate(self, params: Any, stats: Any) -> dict[str, MetricSums]:
        """Return the sums over the split of each evaluation of the task."""
        return {prefix: self.add_up(params, stats, prefix) for prefix in self._evaluate}

    def add_up(self, params: Any, stats: Any, prefix: str = "") -> MetricSums:
        """Return the sums of one evaluation."""
        return self._evaluate[prefix](params, stats, self._split)

    def predict(self, params: Any, stats: Any) -> Any:
        """Return the outputs for the whole split."""
        return predictions.concatenate(
            self._predict(params, stats, self._split, self._replicate(np.array(index, np.int32)))
            for index in range(self._num_batches)
        )


class StreamingEvaluator:
    """Evaluates batches that the host reads; see `Evaluator`."""

    def __init__(
        self,
        task: Task,
        open_batches: OpenBatches,
        batch_size: int,
        sharding: Sharding,
        seed: jax.typing.ArrayLike,
    ):
        """Prepare the programs, which the first call compiles; see `ResidentEvaluator`."""
        self._open_batches = open_batches
        self._batch_size = batch_size
        self._batch_sharding = sharding.batch
        self._evaluations = {
            prefix: evaluation._replace(add=compilation.jit(evaluation.add, sharding.replicated))
            for prefix, evaluation in task.evaluations(seed).items()
        }

        def predict(params: Any, stats: Any, batch: Any) -> Any:
            return task.predict(params, stats, batch), batch.mask

        self._predict = compilation.jit(predict, sharding.replicated)

    def evaluate(self, params: Any, stats: Any) -> dict[str, MetricSums]:
        """Return the sums over the split of each evaluation of the task."""
        return {
            prefix: self.add_up(params, stats, self._open_batches, prefix)
            for prefix in self._evaluations
        }

    def add_up(
        self, params: Any, stats: Any, open_batches: OpenBatches, prefix: str = ""
    ) -> MetricSums:
        """Return the sums of one evaluation over some batches.

        Each batch takes the sums of the one before it, so that the batches run one after another:
        devices that run two programs at once can deadlock in their reductions.
        """
        evaluation = self._evaluations[prefix]
        sums: Any = {name: np.zeros((), np.float32) for name in ("examples", *evaluation.metrics)}
        with contextlib.closing(open_batches(self._batch_size)) as batches:
            for batch in batches:
                distributed.progress()
                sums = evaluation.add(params, stats, sums, send(batch, self._batch_sharding))
        return sums

    def predict(self, params: Any, stats: Any) -> Any:
        """Return the outputs for the whole split."""
        with contextlib.closing(self._open_batches(self._batch_size)) as batches:
            return predictions.concatenate(
                self._predict(params, stats, send(batch, self._batch_sharding)) for batch in batches
            )


def make_evaluate(
    evaluation: Evaluation, batch_size: int, num_examples: int, sharding: NamedSharding | None
) -> Callable[[Any, Any, Examples], MetricSums]:
    """Return the evaluation of a whole split as one pure function; each example counts once."""

    def evaluate(params: Any, stats: Any, split: Examples) -> MetricSums:
        def add_batch(index: jax.Array, sums: MetricSums) -> MetricSums:
            batch = _ordered_batch(split, index, batch_size, num_examples, sharding)
            return evaluation.add(params, stats, sums, batch)

        num_batches = -(-num_examples // batch_size)
        return jax.lax.fori_loop(0, num_batches, add_batch, zero_sums(evaluation.metrics))

    return evaluate


def send(batch: Any, sharding: NamedSharding) -> Any:
    """Return a global batch whose rows of this process are `batch`."""
    return jax.tree.map(
        lambda array: jax.make_array_from_process_local_data(sharding, array), batch
    )


def _ordered_batch(
    split: Examples,
    index: jax.Array,
    batch_size: int,
    num_examples: int,
    sharding: NamedSharding | None,
) -> Any:
    """Return batch `index` of a split in its order; the last batch is padded."""
    ids = index * batch_size + jnp.arange(batch_size)
    mask = ids < num_examples
    return gather_batch(split, jnp.where(mask, ids, 0), mask, sharding)
