"""What a machine of a cluster does for a study: tasks, with a local engine."""

import functools
import json
import os
import pickle
from typing import NamedTuple

from rich.table import Table

from train.errors import UserError
from train.output.files import Line
from train.runtime import cache, cores
from train.runtime.preemption import Preemption
from train.studies.datasets import Datasets, load_datasets
from train.studies.design import Arm, Run
from train.studies.engines.local import LocalEngine
from train.studies.progress import StudyProgress


class Context(NamedTuple):
    """What all tasks of a study have in common.

    Attributes:
      study: The pickled study config.
      folder: The current folder of the driver, from which relative paths start.
      data: The result of `fingerprint` for the driver's data.
      threads: The number of XLA's threads in the driver. With the same number, results on the CPU
        have the same bits.
    """

    study: bytes
    folder: str
    data: str
    threads: int


class Task(NamedTuple):
    """The work of one task: runs of an arm, made side by side, or an arm whose steps are timed."""

    context: Context
    work: tuple[Run, ...] | Arm


class Outcome(NamedTuple):
    """The lines of a task, or the error that the user must fix; empty if there is none."""

    lines: list[Line]
    error: str = ""


def fingerprint(datasets: Datasets) -> str:
    """Return a text that is equal for equal data."""
    return json.dumps(datasets.final.fingerprints(), sort_keys=True)


def perform(task: Task) -> Outcome:
    """Do a task. A process does the tasks of one study only."""
    try:
        engine = _start_engine(task.context)
        if isinstance(task.work, Arm):
            return Outcome([engine.time(task.work)])
        return Outcome([line for lines in engine.make(task.work) for line in lines])
    except UserError as error:
        return Outcome([], str(error))


@functools.cache  # Ray gives several tasks to a process
def _start_engine(context: Context) -> LocalEngine:
    if os.path.isdir(context.folder):  # otherwise the code of the driver was copied to elsewhere
        os.chdir(context.folder)
    study = pickle.loads(context.study)
    cores.use_threads(context.threads)
    cores.use_cores(study.runs_at_once or study.engine.cpus)
    cache.enable_compilation_cache()
    datasets = load_datasets(study, [])
    if fingerprint(datasets) != context.data:
        raise UserError(
            f"the data on {os.uname().nodename} differs from the data where the study was started; "
            "copy it, or use a file system that all machines share"
        )
    # It prints to the log of the task; there is nothing to resume.
    return LocalEngine(study, datasets, StudyProgress(0, 0, Table), Preemption())
