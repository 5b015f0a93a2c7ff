"""Runs one after another, each on all devices: on streamed data, or of detectors."""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import optax
from ml_collections import ConfigDict

from optax_gc import diagnostics
from train import experiment
from train.data.dataset import AnyDataset, Stream, is_in_memory
from train.engine import dispatch, state
from train.engine.averaging import eval_params
from train.engine.dispatch import DispatchSize, Executor
from train.engine.state import TrainState
from train.experiment import Experiment
from train.output.metrics import finite_or_none
from train.studies import measures
from train.studies.measures import Curve, FinalMeasures


class SequentialRuns:
    """The training of one arm, one run at a time; has the interface of `ParallelRuns`.

    Each run is compiled by itself.
    """

    width = 1
    layout = "1 at once, on all devices"

    def __init__(self, config: ConfigDict, dataset: AnyDataset):
        """Args: config: A training config; its seed and learning rate are not used."""
        self._config, self._dataset = config, dataset
        run = experiment.prepare(config, dataset)
        self.total_steps = run.plan.total_steps
        self.init_sha256 = run.pretrained and run.pretrained.sha256

    def train(
        self,
        seeds: Sequence[int],
        rates: Sequence[float],
        after_dispatch: Callable[[int], None] = lambda step: None,
    ) -> list[dict[str, Any]]:
        """Train one run to its end; see `ParallelRuns.train`."""
        run = self._prepare(*seeds, *rates)
        train_state, completed = run.init_state(), 0
        curve: Curve = {}
        dispatch_size = DispatchSize(0)
        with contextlib.closing(run.compile(train_state)) as executor:
            start_time = time.monotonic()
            while completed < self.total_steps:
                limit = completed + dispatch_size.next(train_state)
                stop = min(run.plan.next_event(completed), limit)
                train_state, *metrics = dispatch.train(
                    executor, train_state, completed, stop, measures=run.plan.is_log_step(stop)
                )
                if run.plan.is_log_step(stop):
                    measures.extend_curve(curve, stop, *jax.device_get(metrics))
                completed = stop
                after_dispatch(completed)
            jax.block_until_ready(train_state)
            seconds = time.monotonic() - start_time
            result = _final_result(run, executor, train_state)
        return [result | {"steps": completed, "curve": curve, "seconds": seconds}]

    def step_timer(self, seed: int, rate: float, steps: int) -> Callable[[], float]:
        """Return a function that makes the first steps of a run and returns their seconds."""
        run = self._prepare(seed, rate)
        executor = run.compile(run.init_state())

        def seconds() -> float:
            train_state, *_ = jax.block_until_ready(executor.steps(run.init_state(), 0, 1))
            start_time = time.monotonic()
            jax.block_until_ready(executor.steps(train_state, 1, 1 + steps))
            elapsed = time.monotonic() - start_time
            executor.close()  # the next call reads from the first step again
            return elapsed

        return seconds

    def _prepare(self, seed: int, rate: float) -> Experiment:
        config = self._config.copy_and_resolve_references()
        config.seed, config.optimizer.learning_rate = seed, rate
        dataset = self._dataset
        if not is_in_memory(dataset):
            dataset = cast(Stream, dataset).with_config(config)
        return experiment.prepare(config, dataset)


def _final_result(run: Experiment, executor: Executor, train_state: TrainState) -> dict[str, Any]:
    params = eval_params(train_state.opt_state, train_state.params)
    pretrained = run.pretrained and run.pretrained[:2]
    initial_params, _ = state.init_weights(run.task.init, run.config.seed, pretrained)
    drift = diagnostics.mean_drift(params, initial_params, run.optimizer.axes).distance
    final = FinalMeasures(
        test=executor.evaluate(train_state),
        train=executor.evaluate_train(train_state),
        mean_drift=drift,
        params_norm=optax.tree.norm(params),
    )
    result = measures.final_result(jax.device_get(params), final)
    if run.task.scores:
        scores = run.task.score(executor.predict(train_state), run.dataset)
        result |= {name: finite_or_none(value) for name, value in scores.items()}
    return result
