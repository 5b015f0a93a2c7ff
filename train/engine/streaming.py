"""Training on batches that the host reads, decodes and sends while the devices compute."""

from typing import TYPE_CHECKING, Any

import jax
from ml_collections import ConfigDict

from train.config.types import MAX_INT
from train.data.dataset import Stream
from train.engine.averaging import eval_params
from train.engine.evaluation import StreamingEvaluator, send
from train.engine.optimizers import Measures
from train.engine.state import TrainState
from train.engine.step import StepFunctions, StepMetrics
from train.runtime import compilation
from train.runtime.compilation import Cost
from train.runtime.mesh import Sharding
from train.tasks.task import MetricSums, Task

if TYPE_CHECKING:
    from train.data.streaming.batch_iterator import BatchIterator


def jit_train_step(functions: StepFunctions, sharding: Sharding) -> Any:
    """Return a jitted function of a state and a batch.

    It makes one step and returns the state, its metrics and the gradient. It donates the state,
    except on GPUs: there, the update of a convolution's kernel reads the gradient in another order
    than it writes the kernel, which XLA cannot do in place. It would write to new memory and copy.
    """

    def train_step(state: TrainState, batch: Any) -> tuple[TrainState, StepMetrics, Any]:
        state, grads = functions.train(state, batch)
        return state, functions.metrics(state), grads

    donated = () if sharding.platform == "gpu" else 0
    return jax.jit(train_step, donate_argnums=donated, out_shardings=sharding.replicated)


class StreamingExecutor:
    """The compiled programs of a run whose batches come from the host.

    Attributes:
      cost: The compiler's figures for one step; if there are several shapes, of the last one.
    """

    cost: Cost

    def __init__(
        self,
        config: ConfigDict,
        stream: Stream,
        sharding: Sharding,
        task: Task,
        functions: StepFunctions,
        state: TrainState,
    ):
        """Start to read after the steps of `state`, and compile for states like it."""
        self._stream = stream
        self._batch_sharding = sharding.batch
        self._next_step = int(state.step)
        self._batches: BatchIterator = stream.train_batches(self._next_step)
        train_step = jit_train_step(functions, sharding)
        self._train_steps: dict[tuple[int, ...], Any] = {}  # by the shape of the inputs
        for batch in stream.abstract_batches(sharding.batch):
            shape = batch.inputs.shape
            self._train_steps[shape], self.cost = compilation.compile_program(
                train_step, state, batch
            )
        self._measure = compilation.jit(functions.measure, sharding.replicated)
        batch_size = sharding.round_up(min(config.eval.batch_size, stream.num_test))
        self._evaluator = StreamingEvaluator(
            task, stream.test_batches, batch_size, sharding, config.seed
        )

    def close(self) -> None:
        """Stop the threads and processes that read ahead."""
        self._batches.close()

    def max_dispatch_step(self, step: int) -> int:
        """Return the last step that one dispatch can reach from `step`: any step."""
        del step
        return MAX_INT

    def steps(
        self, state: TrainState, start: int, stop: int
    ) -> tuple[TrainState, StepMetrics, Any]:
        """Dispatch the steps from `start` to `stop`; donates `state`."""
        if start != self._next_step:
            self._batches.close()
            self._batches = self._stream.train_batches(start)
        for _ in range(start, stop):
            batch = send(next(self._batches), self._batch_sharding)
            state, metrics, grads = self._train_steps[batch.inputs.shape](state, batch)
        self._next_step = stop
        return state, metrics, grads

    def measure(self, before: TrainState, grads: Any) -> Measures:
        """Return the measures of a step."""
        return self._measure(before, grads)

    def evaluate(self, state: TrainState) -> dict[str, MetricSums]:
        """Return the sums over the test split of each evaluation of the task."""
        return self._evaluator.evaluate(eval_params(state.opt_state, state.params), state.stats)

    def evaluate_train(self, state: TrainState) -> MetricSums:
        """Return the sums over the training split, without augmentation."""
        params = eval_params(state.opt_state, state.params)
        batches = self._stream.train_batches_in_order
        return self._evaluator.add_up(params, state.stats, batches)

    def predict(self, state: TrainState) -> Any:
        """Return the outputs for the whole test split."""
        return self._evaluator.predict(eval_params(state.opt_state, state.params), state.stats)
