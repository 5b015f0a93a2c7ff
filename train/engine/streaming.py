"""Training on batches that the host reads, decodes and sends while the devices compute."""

import contextlib
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from ml_collections import ConfigDict

from train.config.fields import MAX_INT
from train.data.batch import Batch, shapes
from train.engine.figures import StepMetrics
from train.engine.optimizers import eval_params
from train.engine.predictions import Predictions, on_host
from train.engine.state import MetricSums, TrainState
from train.engine.step import Steps
from train.runtime import compilation
from train.runtime.compilation import Cost
from train.runtime.mesh import Sharding

if TYPE_CHECKING:
    from train.data.streaming.pipeline import Batches, HostBatch, Stream


def jit_train_step(steps: Steps, sharding: Sharding) -> Any:
    """A step and its figures, jitted: of the state, which it overwrites, and a batch."""

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
        state = steps.train(state, batch)
        return state, steps.figures(state)

    return jax.jit(train_step, donate_argnums=0, out_shardings=sharding.replicated)


class StreamingExecutor:
    """The compiled programs of a run whose batches come from the host.

    Attributes:
      cost: what the compiler says of one step.
    """

    cost: Cost

    def __init__(
        self,
        config: ConfigDict,
        stream: "Stream",
        sharding: Sharding,
        steps: Steps,
        like: TrainState,
    ):
        """Begins to read after the steps of `like`, and compiles for states like it."""
        self._stream = stream
        self._batch = sharding.batch
        self._next_step = int(like.step)
        self._batches: Batches = stream.train_batches(self._next_step)
        self._eval_batch = sharding.round_up(min(config.eval.batch_size, stream.num_test))
        batch = shapes(config.data.batch_size, stream.input_shape, sharding.batch)
        self._train_step, self.cost = compilation.compiled(
            jit_train_step(steps, sharding), like, batch
        )
        self._predict_step = jax.jit(
            steps.predict,
            out_shardings=sharding.replicated,
            compiler_options=compilation.options(),
        )
        self._eval_steps = [
            jax.jit(
                eval_step,
                out_shardings=sharding.replicated,
                compiler_options=compilation.options(),
            )
            for eval_step in (steps.evaluate, steps.evaluate_attacked)
            if eval_step
        ]

    def close(self) -> None:
        """Ends the threads and processes that read ahead."""
        self._batches.close()

    def reach(self, step: int) -> int:
        """The last step that `train` can go to: there is no end."""
        del step
        return MAX_INT

    def train(self, state: TrainState, first: int, last: int) -> tuple[TrainState, StepMetrics]:
        """Dispatches the steps after `first` up to `last`; overwrites `state`."""
        if first != self._next_step:
            self._batches.close()
            self._batches = self._stream.train_batches(first)
        for _ in range(first, last):
            state, figures = self._train_step(state, self._send(next(self._batches)))
        self._next_step = last
        return state, figures

    def evaluate(self, state: TrainState, attacked: bool = False) -> MetricSums:
        """The sums over the test split, as it is or under the attack of `config.adversary`.

        They are passed from batch to batch, so that batches follow one another: devices that run
        two programs at once can wait for each other's reductions for ever.
        """
        eval_step = self._eval_steps[attacked]
        params = eval_params(state.opt_state, state.params)
        sums = MetricSums(*np.zeros(len(MetricSums._fields), np.float32))
        with contextlib.closing(self._stream.test_batches(self._eval_batch)) as batches:
            for batch in batches:
                sums = eval_step(params, state.stats, sums, self._send(batch))
        return sums

    def predict(self, state: TrainState) -> Predictions:
        """The answers to the whole test split."""
        params = eval_params(state.opt_state, state.params)
        with contextlib.closing(self._stream.test_batches(self._eval_batch)) as batches:
            return on_host(
                self._predict_step(params, state.stats, self._send(batch)) for batch in batches
            )

    def _send(self, rows: "HostBatch") -> Batch:
        """This process's rows of a batch as their part of the whole."""
        return Batch(
            *(jax.make_array_from_process_local_data(self._batch, array) for array in rows)
        )
