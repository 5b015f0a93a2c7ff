"""The work of a study: choose each arm's rate, make its reported runs, time the comparisons."""

import contextlib
from pathlib import Path

from ml_collections import ConfigDict

from train.output.files import Line
from train.output.tensorboard import Scalars
from train.studies import design, tuning
from train.studies.design import Run, Setting, Shard
from train.studies.engines.engine import Engine
from train.studies.progress import StudyProgress
from train.studies.results import Results, headline


class Runner:
    """Has an engine make the missing runs of a study, and is the only one to write results."""

    def __init__(
        self,
        study: ConfigDict,
        folder: Path,
        results: Results,
        progress: StudyProgress,
        engine: Engine,
        shard: Shard,
    ):
        self._study = study
        self._folder = folder
        self._results = results
        self._progress = progress
        self._engine = engine
        self._shard = shard

    def run(self) -> None:
        """Make the missing runs of this share.

        Reported runs whose learning rate depends on missing runs of other shares are left out.

        Raises:
          Preempted: After SIGTERM or SIGINT; all finished runs are saved.
        """
        settings = design.settings(self._study)
        groups = [settings] if self._engine.needs_all else [[setting] for setting in settings]
        blocked = [group for group in groups if not self._make_group(group)]
        if blocked:
            self._results.gather()  # the other shares may have chosen the rates meanwhile
            for group in blocked:
                self._make_group(group)

    def _make_group(self, settings: list[Setting]) -> bool:
        """Make the missing runs of settings; return False if a rate cannot be chosen yet."""
        study, shard = self._study, self._shard
        arms = [arm for setting in settings for arm in design.arms(study, setting)]
        self._make_missing([run for arm in arms for run in design.tuning_runs(study, arm, shard)])
        rates = {arm: tuning.rate(study, arm, self._results.lines) for arm in arms}
        chosen = {arm: rate.value for arm, rate in rates.items() if rate}
        self._make_missing(
            [run for arm in chosen for run in design.final_runs(study, arm, chosen[arm], shard)]
        )
        if len(chosen) < len(arms):
            return False
        for setting in settings:
            for arm in design.timed_arms(study, setting, shard):
                if design.timing_key(study, arm) not in self._results.lines:
                    self._results.append([self._engine.time(arm)])
        return True

    def _make_missing(self, runs: list[Run]) -> None:
        """Make those of the runs that have no result, and append each result at once."""
        missing = [run for run in runs if run.key not in self._results.lines]
        with contextlib.closing(self._engine.make(missing)) as finished:
            for lines in finished:
                self._results.append(lines)
                if self._study.base.report.tensorboard:
                    for line in lines:
                        _write_scalars(self._folder / "tensorboard", line)
                self._progress.finish(lines)
                self._progress.show_table()


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
        names = [name for name in ("loss", headline(line).name, "top5") if name in line]
        scalars.add(steps[-1], split, {name: line[name] for name in names})
