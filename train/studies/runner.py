"""The order of a study's work: choose each arm's rate, make its reported runs, time the pairs."""

import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from sklearn.model_selection import train_test_split

from train import data, models
from train.checkpoints import pretrained
from train.data.dataset import Dataset, Split
from train.engine import plan
from train.errors import Preempted, UserError, short_repr
from train.output.tensorboard import Scalars
from train.runtime.preemption import Preemption
from train.studies import design, tuning
from train.studies.design import Arm, Run, Setting
from train.studies.parallel_runs import ParallelRuns
from train.studies.progress import StudyProgress
from train.studies.results import Line, Results


class Datasets(NamedTuple):
    """What rates are chosen with, and what is reported."""

    tune: Dataset  # the training set without a part, which stands for the test set
    final: Dataset


class Runner:
    """Makes those runs of a study that are not made yet."""

    def __init__(
        self,
        study: ConfigDict,
        folder: Path,
        datasets: Datasets,
        results: Results,
        progress: StudyProgress,
        preemption: Preemption,
    ):
        self._study = study
        self._folder = folder
        self._results = results
        self._progress = progress
        self._preemption = preemption
        self._datasets = datasets
        count = study.runs_at_once or jax.device_count()
        self._devices = jax.devices()[: min(count, jax.device_count())]

    def run(self, settings: Sequence[Setting]) -> None:
        """Makes all runs of the settings.

        Raises:
          Preempted: SIGTERM or SIGINT; the runs that are done are saved.
        """
        for setting in settings:
            programs: dict[Arm, ParallelRuns] = {}
            for arm in design.arms(self._study, setting):
                self._make(design.tuning_runs(self._study, arm), {})
                rate = tuning.rate(self._study, arm, self._results.lines).value
                self._make(design.final_runs(self._study, arm, rate), programs)
                self._progress.table()
            self._time(setting, programs)

    def _make(self, runs: list[Run], programs: dict[Arm, ParallelRuns]) -> None:
        """Makes those runs of an arm that are not made yet; keeps the program."""
        todo = [run for run in runs if run.key not in self._results.lines]
        if not todo:
            return
        program = programs[todo[0].arm] = self._program(runs)
        for some in _in_pieces(todo, program.width):
            self._progress.begin(some, program.total_steps)
            figures = program.train(
                [run.seed for run in some],
                [run.learning_rate for run in some],
                self._after_dispatch,
            )
            how = {"together": f"{program.width} at once, {self._study.runs_per_device} a device"}
            if program.init_sha256:
                how["init_sha256"] = program.init_sha256
            lines = [_line(run) | of_run | how for run, of_run in zip(some, figures, strict=True)]
            self._results.append(lines)
            if self._study.base.report.tensorboard:
                for line in lines:
                    _write_scalars(self._folder / "tensorboard", line)
            self._progress.done(lines)

    def _after_dispatch(self, steps: int) -> None:
        self._progress.advance(steps)
        if self._preemption.requested():
            raise Preempted(f"stopped; {self._progress.runs_done} runs are done and saved")

    def _program(self, runs: list[Run]) -> ParallelRuns:
        """For runs of one arm; on no more devices than they fill, whether some are made or not."""
        dataset = self._datasets.tune if runs[0].kind == "tune" else self._datasets.final
        self._progress.compiling(runs[0])
        per_device = self._study.runs_per_device
        devices = self._devices[: -(-len(runs) // per_device)]
        return ParallelRuns(runs[0].config, dataset, devices, per_device)

    def _time(self, setting: Setting, programs: dict[Arm, ParallelRuns]) -> None:
        """Times steps of each arm and of the first arm in turn, so that both see the same hours."""
        first, *others = design.arms(self._study, setting)
        for arm in others:
            key = design.timing_key(self._study, first, arm)
            if key in self._results.lines:
                continue
            self._progress.timing(arm)
            seconds = [self._stopwatch(each, programs) for each in (first, arm)]
            for watch in seconds:
                watch()  # warms up
            pairs = []
            for pair in range(self._study.timing.pairs):
                order = (0, 1) if pair % 2 == 0 else (1, 0)  # so that no arm always comes second
                taken = {index: seconds[index]() for index in order}
                pairs.append([taken[0], taken[1]])
            self._results.append([{"key": key} | _describe("time", arm) | {"seconds": pairs}])

    def _stopwatch(self, arm: Arm, programs: dict[Arm, ParallelRuns]) -> Callable[[], float]:
        rate = design.rates(self._study, arm.setting)[0]
        if arm not in programs:
            programs[arm] = self._program(design.final_runs(self._study, arm, rate))
        return programs[arm].time(self._study.seeds[0], rate, self._study.timing.steps)


def load(study: ConfigDict, made: Iterable[Line]) -> Datasets:
    """Reads the data set, and cuts the validation split off its training set, class by class.

    Args:
      study: a validated config.
      made: the results that there are.

    Raises:
      UserError: it cannot be read, the config does not fit it, too many or too few examples are to
        be cut off, or what runs begin from is no longer what it was.
    """
    final = data.load(study.base)
    for setting in design.settings(study):
        config = design.trainer_config(study, design.arms(study, setting)[0], 0, 1.0)
        plan.make(config, final.num_train)
        model = models.build(config, final.num_classes, final.input_shape)
        if config.init_from:
            # Here and not after the runs of other settings.
            _check_source(pretrained.load(config, model), setting, made)
    assert isinstance(final, Dataset)  # validate() lets nothing be streamed
    count = study.tuning.validation_examples
    if not count:
        return Datasets(final, final)
    if not final.num_classes <= count <= final.num_train - final.num_classes:
        raise UserError(
            f"config.tuning.validation_examples={count} are to be cut off {final.num_train} "
            f"examples of {final.num_classes} classes; cut off at least one of each class, and "
            "leave one"
        )
    fewest = np.bincount(final.train.labels, minlength=final.num_classes).min()
    if fewest < 2:
        raise UserError(
            f"config.tuning.validation_examples={count} cannot be cut off class by class, because "
            f"a class has {fewest} example(s) to train on; it must be 0 here, with one rate for "
            "each optimizer"
        )
    rest, validation = train_test_split(
        np.arange(final.num_train), test_size=count, stratify=final.train.labels, random_state=0
    )
    rest, validation = np.sort(rest), np.sort(validation)
    tune = final._replace(train=_part(final.train, rest), test=_part(final.train, validation))
    return Datasets(tune, final)


def _check_source(
    initial: pretrained.PretrainedWeights, setting: Setting, made: Iterable[Line]
) -> None:
    of_setting = (line for line in made if line.get("variant", "") == setting.variant)
    if any(line.get("init_sha256", initial.sha256) != initial.sha256 for line in of_setting):
        raise UserError(
            f"config.init_from={short_repr(initial.source)} has changed since the runs in the work "
            "folder were made; use another --workdir, or bring it back"
        )


def _write_scalars(folder: Path, line: Line) -> None:
    """The curve of a run, for TensorBoard."""
    names = [line[name] for name in ("variant", "optimizer", "gc", "kind") if line[name]]
    run = "-".join([*names, f"seed{line['seed']}", line["key"]])
    steps = line["curve"]["step"]
    with Scalars(folder / run) as scalars:
        for index, step in enumerate(steps):
            figures = {name: of[index] for name, of in line["curve"].items() if name != "step"}
            scalars.add(step, "train", figures)
        split = "validation" if line["kind"] == "tune" else "test"
        scalars.add(steps[-1], split, {name: line[name] for name in ("loss", "top1", "top5")})


def _part(split: Split, ids: np.ndarray) -> Split:
    return Split(split.inputs[ids], split.labels[ids])


def _in_pieces(runs: list[Run], size: int) -> Iterator[list[Run]]:
    for start in range(0, len(runs), size):
        yield runs[start : start + size]


def _line(run: Run) -> Line:
    numbers = {"seed": run.seed, "learning_rate": run.learning_rate}
    return {"key": run.key} | _describe(run.kind, run.arm) | numbers


def _describe(kind: str, arm: Arm) -> dict[str, Any]:
    return {
        "kind": kind,
        **arm.setting._asdict(),
        "gc": arm.gc,
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
