"""`train()`: the story of a run."""

import time
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from train import config as configs
from train import distributed, experiment, metrics
from train.checkpoint import Checkpoints
from train.clock import Clock
from train.errors import Preempted
from train.evaluate import evaluate
from train.experiment import Experiment
from train.health import stop_if_sick
from train.optimizers import removed_fraction
from train.preemption import Preemption
from train.report import Report
from train.state import TrainState
from train.workdir import WorkDir


def train(config: ConfigDict, folder: Path) -> dict[str, Any]:
    """Trains what `config` describes, or goes on where an earlier call was stopped.

    Args:
      config: see `train.config.default`.
      folder: the work folder; a finished run's is left as it is.

    Returns:
      The contents of `summary.json`.

    Raises:
      UserError: something that a person can mend; where the configuration is at fault, nothing
        has been written or compiled.
      Preempted: SIGTERM or SIGINT; what was done is saved.
    """
    clock = Clock()
    configs.validate(config)
    work = WorkDir(folder, config)
    if summary := work.finished():
        print(f"already finished: test top-1 {summary['test_top1']:.4f}; see {work.summary}")
        print("for another run, use another --workdir")
        return summary
    metrics.read(work.metrics)  # a damaged one is refused before anything is compiled
    run = experiment.prepare(config)
    distributed.first_does(work.claim)
    try:
        with (
            Preemption() as preemption,
            Checkpoints(work.checkpoints, config.checkpoint.keep) as checkpoints,
        ):
            return _train(run, work, clock, checkpoints, preemption)
    finally:
        work.release()


def _train(
    run: Experiment, work: WorkDir, clock: Clock, checkpoints: Checkpoints, preemption: Preemption
) -> dict[str, Any]:
    """From the first state, or the last one saved, to the summary."""
    now = checkpoints.restore(run.first_state(), clock, print)
    done = int(now.step)
    compile_start = time.monotonic()
    train_step, eval_step = run.compile_train_step(now), run.compile_eval_step()
    with Report(work, run.plan, clock, done) as report:
        report.say(_opening(run, now, time.monotonic() - compile_start))
        while True:
            # Here and not after the step: a run stopped between the two owes its test.
            if run.plan.tests(done) and not report.tested(done):
                report.test(done, **evaluate(eval_step, now, run.test_batches()))
            if done == run.plan.total_steps:
                break
            with clock.training():
                for batch in run.train_batches(done, run.plan.next_stop(done)):
                    now = train_step(now, batch)
                    done += 1
                    clock.images += run.config.data.batch_size
                    report.advance(done)
                    if leaving := preemption.requested(done):
                        break
                jax.block_until_ready(now)
            stop_if_sick(now.health, now.params, run.config, checkpoints.last_good())
            if run.plan.logs(done):
                report.train(done, **_figures(run, now))
            if run.plan.saves(done) or leaving:
                checkpoints.save(done, now, clock)
            if leaving and done < run.plan.total_steps:
                checkpoints.wait()
                raise Preempted(f"stopped after step {done}, which is saved")
        checkpoints.wait()
        summary = report.finish(now, _title(run.config))
    print(f"test top-1 {summary['test_top1']:.4f}\nsummary: {work.summary}\nplot: {work.curves}")
    return summary


def _figures(run: Experiment, now: TrainState) -> dict[str, float]:
    figures = now.sums.means() | {
        "learning_rate": float(run.learning_rate(int(now.step) - 1 - int(now.health.skipped))),
        "gc_removed_fraction": float(removed_fraction(now.opt_state)),
    }
    if run.config.nan_policy == "skip":
        figures["skipped"] = int(now.health.skipped)
    return figures


def _title(config: ConfigDict) -> str:
    gc = "without GC" if config.gc.mode == "none" else f"GC {config.gc.mode}"
    return f"{config.model.name} on {config.data.name}, {config.optimizer.name}, {gc}"


def _opening(run: Experiment, now: TrainState, compile_seconds: float) -> str:
    examples = len(run.dataset.train.labels), len(run.dataset.test.labels)
    num_params = sum(leaf.size for leaf in jax.tree.leaves(now.params))
    done = int(now.step)
    return (
        f"{_title(run.config)}\n"
        f"{examples[0]:,} images to train on, {examples[1]:,} to test; {num_params:,} parameters\n"
        f"{run.plan.total_steps:,} steps of {run.config.data.batch_size} on "
        f"{run.placement.num_devices} {jax.default_backend()} device(s), "
        f"the step compiled in {compile_seconds:.1f} s\n"
        + (f"resuming after step {done:,}" if done else "starting at step 0")
    )
