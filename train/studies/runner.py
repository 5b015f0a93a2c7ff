"""The work of a study: choose each arm's rate, make its reported runs, time the comparisons."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from train.data.dataset import Dataset
from train.errors import Preempted
from train.output.files import Line
from train.output.tensorboard import Scalars
from train.runtime.preemption import Preemption
from train.studies import design, keys, provenance, tuning
from train.studies.datasets import Datasets
from train.studies.design import Arm, Run, Setting, Shard
from train.studies.parallel_runs import ParallelRuns
from train.studies.progress import StudyProgress
from train.studies.results import Results
from train.studies.streamed_runs import StreamedRuns

Runs = ParallelRuns | StreamedRuns


class Runner:
    """Makes the missing runs of a study."""

    def __init__(
        self,
        study: ConfigDict,
        folder: Path,
        datasets: Datasets,
        results: Results,
        progress: StudyProgress,
        preemption: Preemption,
        shard: Shard,
    ):
        self._study = study
        self._folder = folder
        self._results = results
        self._progress = progress
        self._preemption = preemption
        self._shard = shard
        self._datasets = datasets
        count = study.runs_at_once or jax.device_count()
        self._devices = jax.devices()[: min(count, jax.device_count())]

    def run(self) -> None:
        """Make the missing runs of this share.

        Reported runs whose learning rate depends on missing runs of other shares are left out.

        Raises:
          Preempted: After SIGTERM or SIGINT; all finished runs are saved.
        """
        settings = design.settings(self._study)
        blocked = [setting for setting in settings if not self._make_setting(setting)]
        if blocked:
            self._results.gather()  # the other shares may have chosen the rates meanwhile
            for setting in blocked:
                self._make_setting(setting)

    def _make_setting(self, setting: Setting) -> bool:
        """Make the missing runs of a setting; return False if a rate cannot be chosen yet."""
        all_chosen = True
        programs: dict[Arm, Runs] = {}
        for arm in design.arms(self._study, setting):
            self._make_missing(design.tuning_runs(self._study, arm, self._shard), {})
            rate = tuning.rate(self._study, arm, self._results.lines)
            if rate:
                runs = design.final_runs(self._study, arm, rate.value, self._shard)
                self._make_missing(runs, programs)
            all_chosen = all_chosen and rate is not None
            self._progress.show_table()
        if all_chosen:
            self._time_arms(setting, programs)
        return all_chosen

    def _make_missing(self, runs: list[Run], programs: dict[Arm, Runs]) -> None:
        """Make the missing runs of an arm, and keep their program in `programs`."""
        missing = [run for run in runs if run.key not in self._results.lines]
        if not missing:
            return
        program = programs[missing[0].arm] = self._compile(runs)
        source = {"together": program.layout}
        if program.init_sha256:
            source["init_sha256"] = program.init_sha256
        for first in range(0, len(missing), program.width):
            batch = missing[first : first + program.width]
            lines = [line | source for line in self._train(program, batch)]
            self._results.append(lines)
            if self._study.base.report.tensorboard:
                for line in lines:
                    _write_scalars(self._folder / "tensorboard", line)
            self._progress.finish(lines)

    def _train(self, program: Runs, runs: list[Run]) -> list[Line]:
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

    def _compile(self, runs: list[Run]) -> Runs:
        """Compile all runs of an arm, missing or not, on no more devices than they need."""
        dataset = self._datasets.tune if runs[0].kind == "tune" else self._datasets.final
        self._progress.compiling(runs[0])
        if not isinstance(dataset, Dataset):
            return StreamedRuns(runs[0].config, dataset)
        per_device = self._study.runs_per_device
        devices = self._devices[: -(-len(runs) // per_device)]
        landscape_examples = runs[0].settings.get("landscape_examples", 0)
        return ParallelRuns(runs[0].config, dataset, devices, per_device, landscape_examples)

    def _time_arms(self, setting: Setting, programs: dict[Arm, Runs]) -> None:
        """Time steps of each arm and of the first arm in alternation, under the same load."""
        first = design.arms(self._study, setting)[0]
        for arm in design.timed_arms(self._study, setting, self._shard):
            if design.timing_key(self._study, arm) in self._results.lines:
                continue
            self._progress.timing(arm)
            timers = [self._step_timer(each, programs) for each in (first, arm)]
            for timer in timers:
                timer()  # warm-up
            pairs = []
            for pair in range(self._study.timing.pairs):
                order = (0, 1) if pair % 2 == 0 else (1, 0)  # so that no arm is always second
                seconds = {index: timers[index]() for index in order}
                pairs.append([seconds[0], seconds[1]])
            header = _line_header("time", arm, design.timing_settings(self._study, arm))
            self._results.append([header | {"seconds": pairs}])

    def _step_timer(self, arm: Arm, programs: dict[Arm, Runs]) -> Callable[[], float]:
        rate = design.rates(self._study, arm.setting)[0]
        if arm not in programs:
            programs[arm] = self._compile(design.final_runs(self._study, arm, rate))
        return programs[arm].step_timer(self._study.seeds[0], rate, self._study.timing.steps)


def _write_scalars(folder: Path, line: Line) -> None:
    """Write the curve of a run for TensorBoard."""
    names = [line[name] for name in ("variant", "optimizer", "gc", "kind") if line[name]]
    run = "-".join([*names, f"seed{line['seed']}", line["key"]])
    steps = line["curve"]["step"]
    with Scalars(folder / run) as scalars:
        for index, step in enumerate(steps):
            curve = line["curve"].items()
            metrics = {name: values[index] for name, values in curve if name != "step"}
            scalars.add(step, "train", metrics)
        split = "validation" if line["kind"] == "tune" else "test"
        scalars.add(steps[-1], split, {name: line[name] for name in ("loss", "top1", "top5")})


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
