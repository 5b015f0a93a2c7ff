"""What an executor does, and how many steps it gets in one dispatch."""

import time
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from train.engine.optimizers import Measures
from train.engine.state import TrainState
from train.engine.step import StepMetrics
from train.runtime.compilation import Cost
from train.tasks.task import MetricSums

_SECONDS = 2.5  # of work in a dispatch: long enough to hide its cost, short enough to stop soon


class Programs(Protocol):
    """The compiled programs that train."""

    def steps(
        self, state: TrainState, start: int, stop: int
    ) -> tuple[TrainState, StepMetrics, Any]:
        """Dispatch the steps from `start` to `stop`; donates `state`.

        Returns:
          The new state, its metrics, and the gradient of the last step.
        """

    def measure(self, before: TrainState, grads: Any) -> Measures:
        """Return the measures of a step, from the state before it and its gradient."""


class Executor(Programs, Protocol):
    """The compiled programs of a run and the data that they read.

    Attributes:
      cost: The compiler's figures for one step.
    """

    cost: Cost

    def max_dispatch_step(self, step: int) -> int:
        """Return the last step that one dispatch can reach from `step`."""

    def evaluate(self, state: TrainState) -> dict[str, MetricSums]:
        """Return the sums over the test split of each evaluation of the task."""

    def evaluate_train(self, state: TrainState) -> MetricSums:
        """Return the sums over the training split, without augmentation."""

    def predict(self, state: TrainState) -> Any:
        """Return the outputs for the whole test split on the host, the same in every process."""

    def close(self) -> None:
        """Stop the threads and processes that read ahead."""


def train(
    programs: Programs, state: TrainState, start: int, stop: int, measures: bool
) -> tuple[TrainState, StepMetrics, Measures | None]:
    """Dispatch the steps from `start` to `stop`; donates `state`.

    Args:
      programs: The compiled programs.
      state: The state after `start` steps.
      start: The first step.
      stop: The number of completed steps afterwards.
      measures: Whether to measure the last update. The steps run the same program with or without,
        so the weights do not depend on it.

    Returns:
      The new state, its metrics, and the measures or None.
    """
    if not measures:
        state, metrics, _ = programs.steps(state, start, stop)
        return state, metrics, None
    if stop - start > 1:
        state, _, _ = programs.steps(state, start, stop - 1)
    before = _copy(state)
    state, metrics, grads = programs.steps(state, stop - 1, stop)
    return state, metrics, programs.measure(before, grads)


@jax.jit
def _copy(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


class DispatchSize:
    """The number of steps in a dispatch: as many as take about 2.5 seconds.

    The first dispatch has one step, so that the first loss appears soon. The time is measured once,
    and the number is the same in all processes. It does not change any result.
    """

    def __init__(self, steps: int):
        """Args: steps: The largest number of steps in a dispatch; 0 to measure it."""
        self._steps = steps
        self._is_first = True
        self._times: list[float] = []

    def next(self, state: TrainState) -> int:
        """Return the number of steps of the dispatch that follows `state`."""
        if self._steps and self._is_first:
            self._is_first = False
            return 1
        if not self._steps:
            jax.block_until_ready(state)
            self._times.append(time.monotonic())
            if len(self._times) < 3:  # two dispatches of one step; the first one warms up
                return 1
            seconds = self._times[2] - self._times[1]
            self._steps = _value_of_first_process(max(1, int(_SECONDS / seconds)))
        return self._steps


def _value_of_first_process(steps: int) -> int:
    if jax.process_count() == 1:
        return steps
    return int(multihost_utils.broadcast_one_to_all(np.array(steps, np.int32)))
