"""`train()`: the story of a run."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from train import experiment
from train.checkpoints.manager import Checkpoints, newest
from train.config import validate
from train.data.inputs import example_unit
from train.engine import nonfinite, predictions
from train.engine.dispatch import Dispatcher, Executor
from train.engine.figures import StepMetrics, for_log
from train.engine.nonfinite import raise_if_nonfinite
from train.engine.state import TrainState
from train.errors import Preempted
from train.experiment import Experiment
from train.opening import opening, title
from train.output import metrics
from train.output.summary import Report
from train.output.timer import Timer
from train.output.workdir import WorkDir
from train.runtime import distributed
from train.runtime.preemption import Preemption


def train(config: ConfigDict, folder: Path) -> dict[str, Any]:
    """Trains what `config` describes, or goes on where an earlier call was stopped.

    Args:
      config: see `train.config.default_config`.
      folder: the work folder; a finished run's is left as it is.

    Returns:
      The contents of `summary.json`.

    Raises:
      UserError: something that a user can fix; where the configuration is at fault, nothing
        has been written or compiled.
      Preempted: SIGTERM or SIGINT; what was done is saved.
    """
    timer = Timer()
    validate(config)
    work = WorkDir(folder, config)
    if summary := work.finished():
        print(f"already finished: test top-1 {summary['test_top1']:.4f}; see {work.summary}")
        print("for another run, use another --workdir")
        return summary
    metrics.read(work.metrics)  # a damaged one is refused before anything is compiled
    run = experiment.prepare(config, resumes=newest(work.checkpoints) is not None)
    distributed.on_first_process(lambda: work.claim(run.initial and run.initial.sha256))
    try:
        with (
            Preemption() as preemption,
            Checkpoints(work.checkpoints, config.checkpoint.keep) as checkpoints,
        ):
            return _train(run, work, timer, checkpoints, preemption)
    finally:
        work.release()


def _train(
    run: Experiment, work: WorkDir, timer: Timer, checkpoints: Checkpoints, preemption: Preemption
) -> dict[str, Any]:
    """From the first state, or the last one saved, to the summary."""
    now = checkpoints.restore(run.init_state(), timer, print)
    done = int(now.step)
    with (
        contextlib.closing(run.compile(now)) as programs,
        Report(
            work, run.plan, timer, done, run.config.report.tensorboard, example_unit(run.config)
        ) as report,
    ):
        dispatcher = Dispatcher(run.plan, programs, preemption, run.config.steps_per_dispatch)
        report.say(opening(run, now, programs.cost))
        read = reader(run, nonfinite.names(now.params), timer, report, checkpoints.last_good)
        while True:
            # Here and not after the step: a run stopped between the two owes its test.
            if run.plan.tests(done) and not report.tested(done):
                report.test(done, **_score(run, programs, now))
            if done == run.plan.total_steps:
                break
            with timer.training():
                now, done, leaving = dispatcher.run(now, done, read)
            if run.plan.saves(done) or leaving:
                checkpoints.save(done, now, timer)
            if leaving and done < run.plan.total_steps:
                checkpoints.wait()
                raise Preempted(f"stopped after step {done}, which is saved")
        checkpoints.wait()
        of_classes = _per_class(run, programs, now) if run.config.eval.per_class else None
        summary = report.finish(now, title(run.config), of_classes)
    print(f"test top-1 {summary['test_top1']:.4f}\nsummary: {work.summary}\nplot: {work.curves}")
    return summary


def reader(
    run: Experiment,
    names: list[str],
    timer: Timer,
    report: Report,
    last_good: Callable[[], int | None],
) -> Callable[[int, int, StepMetrics], None]:
    """What the host does with each dispatch's figures, while the next one runs.

    Args:
      run: to which they belong.
      names: of the parameters, in the order of the health's figures.
      timer: counts the images.
      report: gets what is to be logged.
      last_good: returns the step of the newest checkpoint, if there is one.
    """

    def read(first: int, last: int, figures: StepMetrics) -> None:
        raise_if_nonfinite(figures.health, names, run.config, last_good)
        timer.images += (last - first) * run.config.data.batch_size
        report.advance(last)
        if run.plan.logs(last):
            report.train(last, **for_log(figures, run.config))

    return read


def _score(run: Experiment, programs: Executor, state: TrainState) -> dict[str, float]:
    """The figures of a line of the test split."""
    figures = programs.evaluate(state).means()
    if run.config.adversary.eval_steps:
        attacked = programs.evaluate(state, attacked=True).means()
        figures |= {f"robust_{name}": attacked[name] for name in ("loss", "top1")}
    return figures


def _per_class(run: Experiment, programs: Executor, state: TrainState) -> list[dict[str, Any]]:
    return predictions.figures(programs.predict(state), run.dataset.class_names)
