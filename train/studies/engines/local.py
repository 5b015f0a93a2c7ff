"""The engine that makes the runs of a study in this process."""

import datetime
import itertools
from collections.abc import Callable, Generator, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from train.errors import Preempted
from train.output.files import Line
from train.runtime.preemption import Preemption
from train.studies import design, keys, provenance
from train.studies.datasets import Datasets
from train.studies.design import WHOLE, Arm, Run, Setting, Shard
from train.studies.parallel_runs import ParallelRuns, can_run_side_by_side
from train.studies.progress import StudyProgress
from train.studies.sequential_runs import SequentialRuns

Program = ParallelRuns | SequentialRuns


class LocalEngine:
    """Makes the runs of an arm side by side on the devices of this process."""

    needs_all = False

    def __init__(
        self,
        study: ConfigDict,
        datasets: Datasets,
        progress: StudyProgress,
        preemption: Preemption,
        shard: Shard = WHOLE,
    ):
        self._study = study
        self._datasets = datasets
        self._progress = progress
        self._preemption = preemption
        self._shard = shard
        count = study.runs_at_once or jax.device_count()
        self._devices = jax.devices()[: min(count, jax.device_count())]
        # The programs of the reported runs of one setting, for its timings.
        self._programs: dict[Arm, Program] = {}

    def make(self, runs: Sequence[Run]) -> Generator[list[Line]]:
        """Make runs side by side; see `Engine.make`."""
        for _, of_arm in itertools.groupby(runs, lambda run: (run.kind, run.arm)):
            yield from self._make_arm(list(of_arm))

    def time(self, arm: Arm) -> Line:
        """Time steps of an arm and of the first arm of its setting, under the same load."""
        self._progress.timing(arm)
        arms = (design.arms(self._study, arm.setting)[0], arm)
        timers = [self._step_timer(each) for each in arms]
        for timer in timers:
            timer()  # warm-up
        pairs = []
        for pair in range(self._study.timing.pairs):
            order = (0, 1) if pair % 2 == 0 else (1, 0)  # so that no arm is always second
            seconds = {index: timers[index]() for index in order}
            pairs.append([seconds[0], seconds[1]])
        header = _line_header("time", arm, design.timing_settings(self._study, arm))
        return header | {"seconds": pairs}

    def _make_arm(self, runs: list[Run]) -> Generator[list[Line]]:
        """Make runs of one arm and one kind."""
        program = self._program(runs[0])
        source = {"together": program.layout}
        if program.init_sha256:
            source["init_sha256"] = program.init_sha256
        for first in range(0, len(runs), program.width):
            batch = runs[first : first + program.width]
            yield [line | source for line in self._train(program, batch)]

    def _train(self, program: Program, runs: list[Run]) -> list[Line]:
        """Train runs side by side; return their lines."""
        self._progress.start(runs, program.total_steps)
        seeds, rates = [run.seed for run in runs], [run.learning_rate for run in runs]
        results = program.train(seeds, rates, self._after_dispatch)
        return [
            _line_header(run.kind, run.arm, run.settings)
            | {"seed": run.seed, "learning_rate": run.learning_rate}
            | result
            for run, result in zip(runs, results, strict=True)
        ]

    def _after_dispatch(self, step: int) -> None:
        self._progress.advance(step)
        if self._preemption.requested():
            raise Preempted(f"stopped; {self._progress.finished_runs} finished runs are saved")

    def _program(self, run: Run) -> Program:
        """Return the program of a run: compiled for all runs of its arm, missing or not."""
        if run.kind == "final":
            count = len(design.final_seeds(self._study, run.arm.setting, self._shard))
            return self._final_program(run, count)
        self._forget_others(run.arm.setting)
        return self._compile(run, len(design.tuning_runs(self._study, run.arm, self._shard)))

    def _step_timer(self, arm: Arm) -> Callable[[], float]:
        rate = design.rates(self._study, arm.setting)[0]
        runs = design.final_runs(self._study, arm, rate)
        program = self._final_program(runs[0], len(runs))
        return program.step_timer(self._study.seeds[0], rate, self._study.timing.steps)

    def _final_program(self, run: Run, count: int) -> Program:
        """Return the program of a reported run's arm, compiled for `count` runs if it is new."""
        self._forget_others(run.arm.setting)
        if run.arm not in self._programs:
            self._programs[run.arm] = self._compile(run, count)
        return self._programs[run.arm]

    def _forget_others(self, setting: Setting) -> None:
        """Release the programs of other settings, and the data that they hold on the devices."""
        programs = self._programs.items()
        self._programs = {arm: kept for arm, kept in programs if arm.setting == setting}

    def _compile(self, run: Run, count: int) -> Program:
        """Compile `count` runs of an arm on no more devices than they need."""
        dataset = self._datasets.tune if run.kind == "tune" else self._datasets.final
        self._progress.compiling(run)
        if not can_run_side_by_side(dataset, run.config):
            return SequentialRuns(run.config, dataset)
        per_device = self._study.runs_per_device
        devices = self._devices[: -(-count // per_device)]
        landscape_examples = run.settings.get("landscape_examples", 0)
        return ParallelRuns(run.config, dataset, devices, per_device, landscape_examples)


def _line_header(kind: str, arm: Arm, settings: keys.Settings) -> dict[str, Any]:
    return {
        "key": keys.digest(kind, settings),
        "kind": kind,
        **arm.setting._asdict(),
        "gc": arm.gc,
        **provenance.describe(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "settings": settings,
    }
