"""`train()`: a run from its config to its summary."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from train import experiment, tasks
from train.checkpoints.manager import Checkpoints, latest_step
from train.config import flatten, validate
from train.config.schema import may_change_on_resume
from train.data import standardization
from train.data.standardization import Standardization
from train.engine import dispatch
from train.engine.dispatch import DispatchSize, Executor
from train.engine.nonfinite import raise_if_nonfinite
from train.engine.optimizers import Measures
from train.engine.state import TrainState, named_leaves
from train.engine.step import StepMetrics, log_line
from train.errors import Preempted
from train.experiment import Experiment, describe_run, run_title
from train.output import metrics as metrics_file
from train.output.reporter import Reporter
from train.output.saved_run import fill_in_standardization
from train.output.timer import Timer
from train.output.workdir import WorkDir
from train.runtime import distributed
from train.runtime.preemption import Preemption
from train.runtime.profiler import Profiler
from train.tasks.task import means, named_means, summary_name

OnMetrics = Callable[[int, int, StepMetrics, Measures | None], None]
"""Called on the host with the first and the last step of a dispatch, its metrics and measures."""


def train(config: ConfigDict, folder: Path, profile_steps: int = 0) -> dict[str, Any]:
    """Train as `config` describes, or resume an earlier run in the same folder.

    Args:
      config: See `train.config.default_config`.
      folder: The work folder. A finished run is left unchanged.
      profile_steps: The number of steps to trace with `jax.profiler`; 0 for none.

    Returns:
      The contents of `summary.json`.

    Raises:
      UserError: If the user must fix something. With a wrong config, nothing is compiled and no
        file is written.
      Preempted: After SIGTERM or SIGINT; the state is saved.
    """
    timer = Timer()
    validate(config)
    distributed.announce("finding the devices")
    distributed.check_equal("--workdir", str(folder.absolute()))
    fields = {k: v for k, v in flatten(config).items() if not may_change_on_resume(k)}
    distributed.check_equal("the config", str(fields))
    work = WorkDir(folder, config)
    if summary := work.read_summary():
        _print_once(
            f"already finished: {_result(config, summary)}; see {work.summary}\n"
            "for another run, use another --workdir"
        )
        return summary
    # To refuse a damaged file before compiling.
    metrics_file.read(work.metrics, tasks.task_class(config).metrics)
    resumes = latest_step(work.checkpoints) is not None
    config = fill_in_standardization(config, folder)
    run = experiment.prepare(config, resumes=resumes, announce=distributed.announce)
    fingerprints = run.dataset.fingerprints()
    distributed.check_equal("the data", str(fingerprints))
    figures = Standardization(run.config.data.mean, run.config.data.std)
    distributed.check_equal("the mean and the standard deviation of the pixels", str(figures))
    init_sha256 = run.pretrained and run.pretrained.sha256
    measured = figures if standardization.is_requested(config) else None
    distributed.on_first_process(
        lambda: work.acquire(fingerprints, run.dataset.signature, init_sha256, measured)
    )
    try:
        with (
            Preemption() as preemption,
            Checkpoints(work.checkpoints, config.checkpoint.keep) as checkpoints,
            distributed.end_if_process_is_lost(),
        ):
            return _train(run, work, timer, checkpoints, preemption, profile_steps)
    finally:
        work.release()


def _train(
    run: Experiment,
    work: WorkDir,
    timer: Timer,
    checkpoints: Checkpoints,
    preemption: Preemption,
    profile_steps: int,
) -> dict[str, Any]:
    """Train from the initial or the restored state to the summary."""
    distributed.announce("initializing the weights")
    state = checkpoints.restore(run.init_state(), timer, _print_once)
    step = int(state.step)
    distributed.announce("compiling the training step")
    dispatch_size = DispatchSize(run.config.steps_per_dispatch)
    with (
        contextlib.closing(run.compile(state)) as executor,
        Reporter(work, run.config, run.plan, timer, step, run_title(run.config)) as reporter,
        Profiler(work.folder / "profile", profile_steps, step) as profiler,
    ):
        reporter.log(describe_run(run, state, executor.cost))
        on_metrics = metrics_handler(run, state, timer, reporter, checkpoints.latest_step)
        is_first_eval = True
        while True:
            distributed.progress()
            # Evaluation comes first: a run that was stopped before its evaluation makes it now.
            if run.plan.is_eval_step(step) and not reporter.has_eval(step):
                if is_first_eval:
                    reporter.log("compiling the evaluation, then testing ...")
                    is_first_eval = False
                reporter.log_eval(step, **_evaluate(run, executor, state))
            if step == run.plan.total_steps:
                break
            with timer.training():
                state, step, should_stop = train_to_pause(
                    run, executor, state, step, dispatch_size, preemption, profiler, on_metrics
                )
            if run.plan.is_save_step(step) or should_stop:
                checkpoints.save(step, state, timer)
            if should_stop and step < run.plan.total_steps:
                checkpoints.wait()
                raise Preempted(f"stopped after step {step}, which is saved")
        checkpoints.wait()
        classes: dict[str, Any] = {}
        if run.config.eval.per_class or run.task.scores:
            classes = _score_classes(run, executor, state, reporter)
        summary = reporter.finish(state, classes)
    _print_once(f"{_result(run.config, summary)}\nsummary: {work.summary}\nplot: {work.curves}")
    return summary


def train_to_pause(
    run: Experiment,
    executor: Executor,
    state: TrainState,
    step: int,
    dispatch_size: DispatchSize,
    preemption: Preemption,
    profiler: Profiler,
    on_metrics: OnMetrics,
) -> tuple[TrainState, int, bool]:
    """Train to the next evaluation or checkpoint, or until a signal.

    A dispatch is one call of the compiled program, which makes several steps; the step is that of
    `train.engine.step.make_train_step`. `state` cannot be used afterwards, because the program
    reuses its memory.

    Returns:
      The new state, its step, and whether a signal asked to stop.
    """
    pause, should_stop = run.plan.next_pause(step), False
    unread: tuple[int, int, StepMetrics, Measures | None] | None = None
    while step < pause and not should_stop:
        limit = min(step + dispatch_size.next(state), executor.max_dispatch_step(step))
        stop = min(run.plan.next_event(step), profiler.max_dispatch_step(step, limit))
        profiler.before(step, state)
        is_log_step = run.plan.is_log_step(stop)
        state, metrics, measures = dispatch.train(executor, state, step, stop, measures=is_log_step)
        if unread:  # while the devices compute, the host reads the previous metrics
            on_metrics(*jax.device_get(unread))
        unread = step, stop, metrics, measures
        profiler.after(stop, state)
        step, should_stop = stop, preemption.requested()
    if unread:
        on_metrics(*jax.device_get(unread))
    return state, step, should_stop


def metrics_handler(
    run: Experiment,
    state: TrainState,
    timer: Timer,
    reporter: Reporter,
    latest_checkpoint: Callable[[], int | None],
) -> OnMetrics:
    """Return what the host does with the metrics of a dispatch: check, count and log them."""
    leaf_names = list(named_leaves(state.params))

    def on_metrics(start: int, stop: int, metrics: StepMetrics, measures: Measures | None) -> None:
        raise_if_nonfinite(metrics.nonfinite, leaf_names, run.config, latest_checkpoint)
        timer.examples += (stop - start) * run.config.data.batch_size
        reporter.show_steps(stop, means(metrics.sums))
        if measures:
            reporter.log_train(stop, **log_line(metrics, measures, run.config))

    return on_metrics


def _result(config: ConfigDict, summary: dict[str, Any]) -> str:
    task = tasks.task_class(config)
    value = summary[summary_name(task, task.headline.name)]
    return f"test {task.headline.label} {'undefined' if value is None else f'{value:.4f}'}"


def _print_once(text: str) -> None:
    """Print in process 0 only."""
    if distributed.is_first_process():
        print(text)


def _evaluate(run: Experiment, executor: Executor, state: TrainState) -> dict[str, float]:
    """Return the metrics of a test line."""
    metrics = named_means(executor.evaluate(state))
    if run.task.scores:
        metrics |= run.task.score(executor.predict(state), run.dataset)
    return metrics


def _score_classes(
    run: Experiment, executor: Executor, state: TrainState, reporter: Reporter
) -> dict[str, Any]:
    """Return the metrics of each class for the summary, and draw the outputs of the test split."""
    predictions = executor.predict(state)
    rows = run.task.score_classes(predictions, run.dataset)
    reporter.draw_outputs(lambda file: run.task.draw(predictions, rows, run.dataset, file))
    return {"test_per_class": rows} if run.config.eval.per_class else {}
