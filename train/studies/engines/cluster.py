"""The engine that sends the runs of a study to other machines as tasks."""

import contextlib
import itertools
import os
import pickle
from collections.abc import Generator, Sequence
from typing import Protocol

from ml_collections import ConfigDict

from train.errors import Preempted, UserError
from train.output.files import Line
from train.runtime import cores
from train.runtime.preemption import Preemption
from train.studies.datasets import Datasets
from train.studies.design import Arm, Run
from train.studies.engines import worker
from train.studies.engines.worker import Context, Outcome, Task
from train.studies.parallel_runs import can_run_side_by_side
from train.studies.progress import StudyProgress

TRIES = 4
"""How often a task is started, if its process or its machine is lost each time."""


class Backend(Protocol):
    """Sends tasks to the machines of a cluster."""

    def perform(self, tasks: Sequence[Task], alone: bool) -> Generator[list[Outcome]]:
        """Do tasks, and yield their outcomes as they finish.

        It yields at least every few seconds, also if nothing has finished. A task whose process or
        machine is lost is started again. When the generator is closed, what is not finished is
        cancelled.

        Args:
          tasks: The tasks.
          alone: Whether a task needs a machine for itself.

        Raises:
          UserError: If a task is lost `TRIES` times, or the cluster refuses it.
        """
        ...


class ClusterEngine:
    """Divides runs into tasks of the size that one task makes side by side."""

    needs_all = True

    def __init__(
        self,
        study: ConfigDict,
        datasets: Datasets,
        progress: StudyProgress,
        preemption: Preemption,
        backend: Backend,
    ):
        devices = study.engine.gpus or study.engine.cpus
        at_once = min(study.runs_at_once or devices, devices) * study.runs_per_device
        self._runs_per_task = at_once if can_run_side_by_side(datasets.final, study.base) else 1
        self._context = Context(
            study=pickle.dumps(study),
            folder=os.getcwd(),
            data=worker.fingerprint(datasets),
            threads=cores.num_threads(),
        )
        self._progress = progress
        self._preemption = preemption
        self._backend = backend

    def make(self, runs: Sequence[Run]) -> Generator[list[Line]]:
        """Make all runs at the same time, as far as the cluster has room; see `Engine.make`."""
        arms = itertools.groupby(runs, lambda run: (run.kind, run.arm))
        tasks = [
            Task(self._context, batch)
            for _, of_arm in arms
            for batch in _batches(tuple(of_arm), self._runs_per_task)
        ]
        if tasks:
            self._progress.sent(len(tasks), len(runs))
            yield from self._perform(tasks, alone=False)

    def time(self, arm: Arm) -> Line:
        """Time steps in a task that runs while no other task of the study does."""
        self._progress.timing(arm)
        [[line]] = self._perform([Task(self._context, arm)], alone=True)
        return line

    def _perform(self, tasks: Sequence[Task], alone: bool) -> Generator[list[Line]]:
        with contextlib.closing(self._backend.perform(tasks, alone)) as steps:
            for outcomes in steps:
                for outcome in outcomes:
                    if not outcome.error:
                        yield outcome.lines
                for outcome in outcomes:  # after the others are saved
                    if outcome.error:
                        raise UserError(outcome.error)
                if self._preemption.requested():
                    raise Preempted(
                        f"stopped; {self._progress.finished_runs} finished runs are saved"
                    )


def _batches(runs: tuple[Run, ...], size: int) -> list[tuple[Run, ...]]:
    return [runs[first : first + size] for first in range(0, len(runs), size)]
