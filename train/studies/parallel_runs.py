"""Runs that differ only in seed and learning rate, side by side in one compiled program."""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from train import experiment, tasks
from train.data import class_counts
from train.data.batch import put_split
from train.data.dataset import AnyDataset, Dataset, is_in_memory
from train.engine import averaging, dispatch
from train.runtime import compilation
from train.studies import measures
from train.studies.measures import Curve
from train.studies.run_functions import RunFunctions


class RunInputs(NamedTuple):
    """The inputs of the runs, each (width,), sharded over the devices.

    Attributes:
      seeds: int32.
      rates: float32; the peak learning rates.
    """

    seeds: jax.Array
    rates: jax.Array


def can_run_side_by_side(dataset: AnyDataset, config: ConfigDict) -> TypeGuard[Dataset]:
    """Return whether runs can share a device: data in memory, and no score from the host."""
    return is_in_memory(dataset) and not tasks.task_class(config).scores


class ParallelRuns:
    """The training of one arm, compiled for `width` runs at once.

    Each device has one run, or several under `vmap`. The result of a run does not depend on the
    others.

    Attributes:
      width: The number of runs of one call.
      total_steps: The number of steps of each run.
      init_sha256: The digest of the weights that the runs start from; None for random weights.
      layout: How the runs share the devices, for `results.jsonl`.
    """

    def __init__(
        self,
        config: ConfigDict,
        dataset: Dataset,
        devices: Sequence[jax.Device],
        per_device: int,
        landscape_examples: int = 0,
    ):
        """Compile the initial states.

        Args:
          config: A training config; its seed and learning rate are not used.
          dataset: The data set.
          devices: The devices.
          per_device: The number of runs on each device.
          landscape_examples: Training examples for `train.studies.landscape`; 0 to leave it out.
        """
        self._run = experiment.prepare(config, dataset, devices[:1])
        self._per_device = per_device
        self._mesh = jax.make_mesh(
            (len(devices),), ("runs",), axis_types=(AxisType.Auto,), devices=devices
        )
        self.width = len(devices) * per_device
        self.layout = f"{self.width} at once, {per_device} a device"
        self.total_steps = self._run.plan.total_steps
        replicated = NamedSharding(self._mesh, P())
        self._train_split = put_split(dataset.train, replicated)
        classes = class_counts.for_sampling(self._run.config, dataset)
        self._functions = RunFunctions(self._run, classes, landscape_examples)
        self._test_split = put_split(dataset.test, replicated)
        self._pretrained = self._run.pretrained and self._run.pretrained[:2]
        self.init_sha256 = self._run.pretrained and self._run.pretrained.sha256
        self._init_states = self._compile(
            self._functions.init_state, 2, *self._inputs([0], [1.0]), self._pretrained
        )
        self._train_steps: Any = None
        self._measure: Any = None
        self._evaluate: Any = None

    def train(
        self,
        seeds: Sequence[int],
        rates: Sequence[float],
        after_dispatch: Callable[[int], None] = lambda step: None,
    ) -> list[dict[str, Any]]:
        """Train up to `width` runs to their end.

        Args:
          seeds: The seed of each run.
          rates: The peak learning rate of each run.
          after_dispatch: Called with the number of completed steps, at most a few times a second;
            may raise.

        Returns:
          The results of each run, as in a line of `results.jsonl`.
        """
        inputs = self._inputs(seeds, rates)
        start_time = time.monotonic()
        curves: list[Curve] = [{} for _ in seeds]
        states, completed = self._init_states(*inputs, self._pretrained), 0
        while completed < self.total_steps:
            stop = min(self._run.plan.next_event(completed), self._max_dispatch_step(completed))
            is_log_step = self._run.plan.is_log_step(stop)
            states, *metrics = dispatch.train(
                _Bound(self, inputs), states, completed, stop, measures=is_log_step
            )
            if is_log_step:
                read = jax.device_get(metrics)
                for index, curve in enumerate(curves):
                    step_metrics, measured = _of_run(read, index)
                    measures.extend_curve(curve, stop, step_metrics, *measured)
            else:
                jax.block_until_ready(metrics)
            completed = stop
            after_dispatch(completed)
        seconds = time.monotonic() - start_time
        results = self._final_results(inputs, states)
        return [
            result | {"steps": completed, "curve": curve, "seconds": seconds}
            for result, curve in zip(results, curves, strict=False)
        ]

    def step_timer(self, seed: int, rate: float, steps: int) -> Callable[[], float]:
        """Return a function that makes the first steps of a run and returns their seconds.

        All devices make the same steps side by side. Each call starts from the initial state.
        """
        inputs = self._inputs([seed], [rate])
        stops = [*range(0, steps, self._max_dispatch_step(0)), steps]

        def seconds() -> float:
            states = jax.block_until_ready(self._init_states(*inputs, self._pretrained))
            start_time = time.monotonic()
            for start, stop in itertools.pairwise(stops):
                states, *_ = self.steps(inputs, states, start, stop)
            jax.block_until_ready(states)
            return time.monotonic() - start_time

        return seconds

    def steps(self, inputs: RunInputs, states: Any, start: int, stop: int):
        """Dispatch the steps from `start` to `stop`; donates `states`."""
        epoch, offset = divmod(start * self._run.config.data.batch_size, self._num_examples)
        epoch_offset_count = jnp.asarray(np.array([epoch, offset, stop - start], np.int32))
        args = (*inputs, states, self._train_split, epoch_offset_count)
        if self._train_steps is None:
            self._train_steps = self._compile(self._functions.train_steps, 3, *args, donate=2)
        return self._train_steps(*args)

    def measure(self, inputs: RunInputs, before: Any, grads: Any) -> Any:
        """Return the measures of a step of each run."""
        args = (*inputs, before, grads, self._train_split)
        if self._measure is None:
            self._measure = self._compile(self._functions.measure, 4, *args)
        return self._measure(*args)

    @property
    def _num_examples(self) -> int:
        return self._run.plan.num_examples

    def _max_dispatch_step(self, completed: int) -> int:
        """Return the last step that one dispatch can reach: two epochs of order."""
        batch_size = self._run.config.data.batch_size
        return (completed * batch_size // self._num_examples + 2) * self._num_examples // batch_size

    def _final_results(self, inputs: RunInputs, states: Any) -> list[dict[str, Any]]:
        # Without the optimizer state, this is the same program for all optimizers.
        params = averaging.eval_params(states.opt_state, states.params)
        states = states._replace(params=params, opt_state=())
        args = (*inputs, states, self._train_split, self._test_split, self._pretrained)
        if self._evaluate is None:
            self._evaluate = self._compile(self._functions.evaluate, 3, *args)
        all_results = jax.device_get((states.params, self._evaluate(*args)))
        results: list[dict[str, Any]] = []
        for index in range(self.width):
            params, evaluated = _of_run(all_results, index)
            results.append(measures.final_result(params, evaluated))
        return results

    def _inputs(self, seeds: Sequence[int], rates: Sequence[float]) -> RunInputs:
        """Return the inputs of the runs; unused places repeat the last run."""
        sharding = NamedSharding(self._mesh, P("runs"))
        unused = self.width - len(seeds)
        return RunInputs(
            jax.device_put(np.array([*seeds, *[seeds[-1]] * unused], np.int32), sharding),
            jax.device_put(np.array([*rates, *[rates[-1]] * unused], np.float32), sharding),
        )

    def _compile(self, fn: Any, num_own: int, *args: Any, donate: int | None = None) -> Any:
        """Compile a function of one run for all runs; its first `num_own` arguments are per run."""

        def on_device(*args: Any) -> Any:
            if self._per_device > 1:
                axes = [0] * num_own + [None] * (len(args) - num_own)
                return jax.vmap(fn, in_axes=axes)(*args)
            # No vmap over one run: it makes other, slower convolutions.
            own = jax.tree.map(lambda leaf: leaf[0], args[:num_own])
            return jax.tree.map(lambda leaf: leaf[None], fn(*own, *args[num_own:]))

        specs = (P("runs"),) * num_own + (P(),) * (len(args) - num_own)
        on_all_devices = jax.shard_map(
            on_device,
            mesh=self._mesh,
            in_specs=specs,
            out_specs=P("runs"),
            check_vma=False,
        )
        shardings = tuple(NamedSharding(self._mesh, spec) for spec in specs)
        jitted = jax.jit(
            on_all_devices,
            in_shardings=shardings,
            donate_argnums=() if donate is None else donate,
        )
        return compilation.compile_program(jitted, *args)[0]


class _Bound(NamedTuple):
    """The programs of some runs with their inputs, for `train.engine.dispatch.train`."""

    runs: ParallelRuns
    inputs: RunInputs

    def steps(self, states: Any, start: int, stop: int) -> Any:
        return self.runs.steps(self.inputs, states, start, stop)

    def measure(self, before: Any, grads: Any) -> Any:
        return self.runs.measure(self.inputs, before, grads)


def _of_run(tree: Any, index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], tree)
