"""Runs that differ only in seed and rate, side by side in one compiled program."""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from optax_gc import diagnostics
from train import experiment
from train.data.batch import DeviceSplit, put_split
from train.data.dataset import Dataset
from train.data.order import two_epochs
from train.engine import optimizers, state, step
from train.engine.resident import make_evaluate, make_train_steps
from train.engine.state import MetricSums, TrainState, sha256
from train.output.metrics import finite_or_none
from train.runtime import compilation

Curve = dict[str, list[float | None]]


class ParallelRuns:
    """One arm's training, compiled for `width` runs at once; seed and rate are its inputs.

    One run lies on each device, or several under `vmap`. What a run gives does not depend on
    those beside it.

    Attributes:
      width: how many runs one call makes.
      total_steps: of each run.
      init_sha256: of what the runs begin from; None if they begin anew.
    """

    def __init__(
        self, config: ConfigDict, dataset: Dataset, devices: Sequence[jax.Device], per_device: int
    ):
        """Args: config: a trainer's, of which seed and rate are left out."""
        self._run = experiment.prepare(config, dataset, devices[:1])
        self._per_device = per_device
        self._mesh = jax.make_mesh(
            (len(devices),), ("runs",), axis_types=(AxisType.Auto,), devices=devices
        )
        self.width = len(devices) * per_device
        self.total_steps = self._run.plan.total_steps
        everywhere = NamedSharding(self._mesh, P())
        self._train_split = put_split(dataset.train, everywhere)
        self._test_split = put_split(dataset.test, everywhere)
        self._initial = self._run.pretrained and self._run.pretrained[:2]
        self.init_sha256 = self._run.pretrained and self._run.pretrained.sha256
        self._start = self._compiled(
            self._first_state, 2, *self._numbers([0], [1.0]), self._initial
        )
        self._train_steps: Any = None
        self._finish: Any = None

    def train(
        self,
        seeds: Sequence[int],
        rates: Sequence[float],
        after: Callable[[int], None] = lambda steps: None,
    ) -> list[dict[str, Any]]:
        """Trains up to `width` runs to their end.

        Args:
          seeds: of each run.
          rates: of each run, the highest of its schedule.
          after: is called with the steps done, some times a second or less; may raise.

        Returns:
          What each run came to: the figures of a line of `results.jsonl`.
        """
        numbers = self._numbers(seeds, rates)
        began = time.monotonic()
        curves = [_empty_curve() for _ in seeds]
        now, done = self._start(*numbers, self._initial), 0
        while done < self.total_steps:
            last = min(self._run.plan.next_event(done), self._reach(done))
            now, seen = self.steps(numbers, now, done, last)
            if self._run.plan.is_log_step(last):
                _extend(curves, last, *jax.device_get(seen))
            else:
                jax.block_until_ready(seen)
            done = last
            after(done)
        seconds = time.monotonic() - began
        ends = self._ends(numbers, now)
        return [
            end | {"steps": done, "curve": curve, "seconds": seconds}
            for end, curve in zip(ends, curves, strict=False)
        ]

    def time(self, seed: int, rate: float, steps: int) -> Callable[[], float]:
        """A stopwatch for the first steps of a run, made by all devices side by side.

        Returns:
          A function that makes the steps, from a fresh start, and returns the seconds they took.
        """
        numbers = self._numbers([seed], [rate])
        pauses = [*range(0, steps, self._reach(0)), steps]

        def seconds() -> float:
            now = jax.block_until_ready(self._start(*numbers, self._initial))
            began = time.monotonic()
            for first, last in itertools.pairwise(pauses):
                now, _ = self.steps(numbers, now, first, last)
            jax.block_until_ready(now)
            return time.monotonic() - began

        return seconds

    def steps(self, numbers: tuple[jax.Array, jax.Array], now: Any, first: int, last: int):
        """Dispatches the steps after `first` up to `last`; overwrites the states `now`."""
        epoch, place = divmod(first * self._run.config.data.batch_size, self._run.plan.num_examples)
        where = np.array([epoch, place, last - first], np.int32)
        args = (*numbers, now, self._train_split, jnp.asarray(where))
        if self._train_steps is None:
            self._train_steps = self._compiled(self._some_steps, 3, *args, donate=2)
        return self._train_steps(*args)

    def _reach(self, done: int) -> int:
        """The last step that one dispatch can go to."""
        batch, examples = self._run.config.data.batch_size, self._run.plan.num_examples
        return (done * batch // examples + 2) * examples // batch

    def _ends(self, numbers: tuple[jax.Array, jax.Array], now: Any) -> list[dict[str, Any]]:
        # Without the optimizer's state, so that this is one and the same program for all of them.
        tested = optimizers.eval_params(now.opt_state, now.params)
        now = now._replace(params=tested, opt_state=())
        splits = self._train_split, self._test_split
        args = (*numbers, now, *splits, self._initial)
        if self._finish is None:
            self._finish = self._compiled(self._final_figures, 3, *args)
        params, (test, train, drift, norm) = jax.device_get((now.params, self._finish(*args)))
        ends: list[dict[str, Any]] = []
        for index in range(self.width):
            of_test, of_train, of_params, length, how_far = jax.tree.map(
                lambda leaf, index=index: leaf[index], (test, train, params, norm, drift)
            )
            test_means, train_means = (
                {name: finite_or_none(value) for name, value in sums.means().items()}
                for sums in (of_test, of_train)
            )
            ends.append(
                {
                    **test_means,
                    **{f"train_{name}": value for name, value in train_means.items()},
                    "mean_drift": finite_or_none(how_far),
                    "params_norm": finite_or_none(length),
                    "params_sha256": sha256(of_params),
                }
            )
        return ends

    def _numbers(self, seeds: Sequence[int], rates: Sequence[float]) -> tuple[Any, Any]:
        """The runs' inputs; places that are left over repeat the last run."""
        runs = NamedSharding(self._mesh, P("runs"))
        left = self.width - len(seeds)
        return (
            jax.device_put(np.array([*seeds, *[seeds[-1]] * left], np.int32), runs),
            jax.device_put(np.array([*rates, *[rates[-1]] * left], np.float32), runs),
        )

    def _compiled(self, one: Any, own: int, *args: Any, donate: int | None = None) -> Any:
        """Compiles a function of one run for all of them; its first `own` arguments are theirs."""

        def on_a_device(*args: Any) -> Any:
            if self._per_device > 1:
                axes = [0] * own + [None] * (len(args) - own)
                return jax.vmap(one, in_axes=axes)(*args)
            # No vmap: a batch of one makes other, slower convolutions.
            alone = jax.tree.map(lambda leaf: leaf[0], args[:own])
            return jax.tree.map(lambda leaf: leaf[None], one(*alone, *args[own:]))

        specs = (P("runs"),) * own + (P(),) * (len(args) - own)
        everywhere = jax.shard_map(
            on_a_device,
            mesh=self._mesh,
            in_specs=specs,
            out_specs=P("runs"),
            check_vma=False,
        )
        placed = tuple(NamedSharding(self._mesh, spec) for spec in specs)
        jitted = jax.jit(
            everywhere, in_shardings=placed, donate_argnums=() if donate is None else donate
        )
        return compilation.compile_program(jitted, *args)[0]

    def _optimizer(self, rate: jax.Array) -> tuple[optax.GradientTransformation, optax.Schedule]:
        schedule = optimizers.make_schedule(self._run.config, self._run.plan, rate)
        tx = optimizers.build(self._run.config, schedule, self._run.axes)
        return optax.chain(optax.snapshot("gradient_norm", optax.tree.norm), tx), schedule

    def _first_state(self, seed: jax.Array, rate: jax.Array, initial: Any) -> TrainState:
        return state.create(self._run.model, self._optimizer(rate)[0], seed, initial)

    def _some_steps(
        self,
        seed: jax.Array,
        rate: jax.Array,
        now: TrainState,
        examples: DeviceSplit,
        where: jax.Array,
    ):
        tx, schedule = self._optimizer(rate)
        steps = step.make(self._run.config, self._run.model, tx, schedule, seed)

        def seen(state: TrainState):
            norm = optax.tree.get(state.opt_state, "gradient_norm")
            return step.read_metrics(state, schedule), norm

        plan = self._run.plan
        train_steps = make_train_steps(steps._replace(metrics=seen), plan.batch_size, None)
        order = two_epochs(seed, where[0], plan.num_examples)
        return train_steps(now, examples, order, where[1:])

    def _final_figures(
        self,
        seed: jax.Array,
        rate: jax.Array,
        now: TrainState,
        train_split: DeviceSplit,
        test_split: DeviceSplit,
        initial: Any,
    ):
        del rate
        config, model = self._run.config, self._run.model
        eval_step = step.make_eval_step(config, model)

        def score(split: DeviceSplit) -> MetricSums:
            count = len(split.labels)
            return make_evaluate(eval_step, min(config.eval.batch_size, count), count, None)(
                now, split
            )

        first_params, _ = state.init_weights(model, seed, initial)
        drift = diagnostics.mean_drift(now.params, first_params, self._run.axes).distance
        return score(test_split), score(train_split), drift, optax.tree.norm(now.params)


def _empty_curve() -> Curve:
    return {name: [] for name in ("step", "loss", "top1", "gradient_norm", "gc_removed_fraction")}


def _extend(curves: list[Curve], last: int, seen: step.StepMetrics, norms: np.ndarray) -> None:
    """Adds the point after `last` steps to the curve of each run."""
    for index, curve in enumerate(curves):
        of_run = jax.tree.map(lambda leaf, index=index: leaf[index], seen)
        means = of_run.sums.means()
        curve["step"].append(last)
        curve["loss"].append(finite_or_none(means["loss"]))
        curve["top1"].append(finite_or_none(means["top1"]))
        curve["gradient_norm"].append(finite_or_none(norms[index]))
        curve["gc_removed_fraction"].append(finite_or_none(of_run.removed_fraction))
