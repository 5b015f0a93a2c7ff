"""The trainer's loop and parts of it, as functions that make a number of steps and wait."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from train.config.types import MAX_INT
from train.data.batch import Batch
from train.data.dataset import Dataset
from train.engine.dispatch import DispatchSize, Executor
from train.engine.state import TrainState
from train.engine.step import make_train_step
from train.experiment import Experiment
from train.loop import metrics_handler, train_to_pause
from train.output.reporter import Reporter
from train.output.timer import Timer
from train.output.workdir import WorkDir
from train.runtime import compilation
from train.runtime.preemption import Preemption
from train.runtime.profiler import Profiler

Loop = Callable[[int], None]
"""Makes a number of steps and waits for the last one."""


def dispatched_steps(run: Experiment, executor: Executor) -> Loop:
    """Return the compiled steps over the data set, without other work on the host."""
    state, step = run.init_state(), 0

    def train(num_steps: int) -> None:
        nonlocal state, step
        last_step = step + num_steps
        while step < last_step:
            stop = min(last_step, executor.max_dispatch_step(step))
            state, *_ = executor.steps(state, step, stop)
            step = stop
        jax.block_until_ready(state)

    return train


@contextlib.contextmanager
def whole_loop(
    run: Experiment, executor: Executor, num_steps: int, folder: Path
) -> Iterator[Callable[[], None]]:
    """Yield the part of `train.loop` between two pauses that are `num_steps` apart.

    It has dispatches as long as in a run, reads and checks metrics, writes lines in
    `metrics.jsonl` and shows progress. It does not evaluate or save.
    """
    plan = run.plan._replace(total_steps=MAX_INT, eval_every=MAX_INT, save_every=num_steps)
    state, step, timer = run.init_state(), 0, Timer()
    run, preemption = run._replace(plan=plan), Preemption()
    dispatch_size = DispatchSize(run.config.steps_per_dispatch)
    profiler = Profiler(folder, 0, 0)
    with Reporter(WorkDir(folder, run.config), run.config, plan, timer, 0, "benchmark") as reporter:
        on_metrics = metrics_handler(run, state, timer, reporter, lambda: None)

        def train() -> None:
            nonlocal state, step
            with timer.training():
                state, step, _ = train_to_pause(
                    run, executor, state, step, dispatch_size, preemption, profiler, on_metrics
                )
            jax.block_until_ready(state)

        yield train


def bare_steps(run: Experiment, dataset: Dataset) -> dict[str, Loop]:
    """Return the jitted step, always on the same batch: in a Python loop, and in a compiled one."""
    train_and_differentiate = make_train_step(run.config, run.task, run.optimizer, run.config.seed)
    size = run.config.data.batch_size
    rows = dataset.train.inputs[:size], dataset.train.labels[:size], np.ones(size, bool)
    batch = Batch(*jax.device_put(rows, run.sharding.batch))

    def train_step(state: TrainState, batch: Batch) -> TrainState:
        return train_and_differentiate(state, batch)[0]

    def train_steps(state: TrainState, batch: Batch, count: jax.Array) -> TrainState:
        return jax.lax.fori_loop(0, count, lambda _, state: train_step(state, batch), state)

    def replicate(num_steps: int) -> jax.Array:
        return jax.device_put(np.int32(num_steps), run.sharding.replicated)

    states = [run.init_state(), run.init_state()]
    one_step, _ = compilation.compile_program(_jit(train_step, run), states[0], batch)
    many_steps, _ = compilation.compile_program(
        _jit(train_steps, run), states[1], batch, replicate(1)
    )

    def called(num_steps: int) -> None:
        for _ in range(num_steps):
            states[0] = one_step(states[0], batch)
        jax.block_until_ready(states[0])

    def compiled_loop(num_steps: int) -> None:
        states[1] = jax.block_until_ready(many_steps(states[1], batch, replicate(num_steps)))

    return {"bare step, called": called, "bare step, compiled loop": compiled_loop}


def _jit(function: Callable[..., TrainState], run: Experiment):
    return jax.jit(function, donate_argnums=0, out_shardings=run.sharding.replicated)


def matrix_products(precision: str) -> tuple[Loop, float]:
    """Return a function that computes large matrix products, and the FLOPs of one product."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    normal = np.random.default_rng(0).standard_normal((2, size, size), np.float32)
    left, right = jnp.asarray(normal / np.sqrt(size), precision)  # scaled against overflow

    def chain(left: jax.Array, right: jax.Array, count: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, count, lambda _, product: product @ right, left)

    compiled_chain = jax.jit(chain, compiler_options=compilation.options())

    def multiply(count: int) -> None:
        jax.block_until_ready(compiled_chain(left, right, jnp.int32(count)))

    return multiply, 2.0 * size**3
