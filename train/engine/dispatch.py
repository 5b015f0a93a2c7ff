"""Sending steps to the devices, one dispatch ahead of what the host reads of them."""

import time
from collections.abc import Callable
from typing import Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils

from train.engine.figures import StepMetrics
from train.engine.plan import Plan
from train.engine.predictions import Predictions
from train.engine.state import MetricSums, TrainState
from train.runtime.compilation import Cost
from train.runtime.preemption import Preemption

_SECONDS = 2.5  # of work in a dispatch: long enough to hide its cost, short enough to stop soon


class Executor(Protocol):
    """The compiled programs of a run."""

    cost: Cost

    def reach(self, step: int) -> int:
        """The last step that one dispatch can go to from `step`."""

    def train(self, state: TrainState, first: int, last: int) -> tuple[TrainState, StepMetrics]:
        """Dispatches the steps after `first` up to `last`; overwrites `state`."""

    def evaluate(self, state: TrainState, attacked: bool = False) -> MetricSums:
        """The sums over the test split, as it is or under the attack of `config.adversary`."""

    def predict(self, state: TrainState) -> Predictions:
        """The answers to the whole test split, the same on each process."""

    def close(self) -> None:
        """Ends what reads ahead."""


class Dispatcher:
    """Runs the steps between two pauses of a plan, several in one dispatch.

    How many steps a dispatch has changes nothing of what is computed.
    """

    def __init__(self, plan: Plan, programs: Executor, preemption: Preemption, steps: int):
        """Args: steps: the most that a dispatch has; 0 for as many as take two or three seconds."""
        self._plan = plan
        self._programs = programs
        self._preemption = preemption
        self._pace = _Pace(steps)

    def run(
        self, state: TrainState, done: int, read: Callable[[int, int, StepMetrics], None]
    ) -> tuple[TrainState, int, bool]:
        """Trains on to the next pause, or until a signal.

        Args:
          state: after `done` steps; is overwritten.
          done: the number of its steps.
          read: is called for each dispatch, while the next one runs, with the steps that it began
            and ended with and with its figures, on the host.

        Returns:
          The new state, the number of its steps, and whether a signal asked to stop.
        """
        pause, leaving = self._plan.next_pause(done), False
        unread: tuple[int, int, StepMetrics] | None = None
        while done < pause and not leaving:
            reach = min(done + self._pace.steps(state), self._programs.reach(done))
            last = min(self._plan.next_stop(done), reach)
            state, figures = self._programs.train(state, done, last)
            if unread:
                read(*jax.device_get(unread))
            unread = done, last, figures
            done, leaving = last, self._preemption.requested()
        if unread:
            read(*jax.device_get(unread))
        return state, done, leaving


class _Pace:
    """How many steps take two or three seconds: found once, and the same in all processes."""

    def __init__(self, steps: int):
        self._steps = steps
        self._times: list[float] = []

    def steps(self, state: TrainState) -> int:
        """The steps of the dispatch after the one that `state` comes from."""
        if not self._steps:
            jax.block_until_ready(state)
            self._times.append(time.monotonic())
            if len(self._times) < 3:  # two dispatches of one step; the first one warms up
                return 1
            seconds = self._times[2] - self._times[1]
            self._steps = _as_in_the_first_process(max(1, int(_SECONDS / seconds)))
        return self._steps


def _as_in_the_first_process(steps: int) -> int:
    if jax.process_count() == 1:
        return steps
    return int(multihost_utils.broadcast_one_to_all(np.array(steps, np.int32)))
