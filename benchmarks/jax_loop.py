"""The trainer's loop and its parts; each is called with a number of steps, makes them and waits."""

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

Loop = Callable[[int], None]


def dispatched(run: Experiment, programs: Executor) -> Loop:
    """The compiled steps over the data set, with nothing of the host's between them."""
    state, done = run.init_state(), 0

    def train(steps: int) -> None:
        nonlocal state, done
        end = done + steps
        while done < end:
            last = min(end, programs.max_dispatch_step(done))
            state, _ = programs.train(state, done, last)
            done = last
        jax.block_until_ready(state)

    return train


@contextlib.contextmanager
def whole_loop(
    run: Experiment, programs: Executor, steps: int, folder: Path
) -> Iterator[Callable[[], None]]:
    """What `train.loop` does between two pauses that are `steps` apart, with no test and no save.

    Dispatches as long as in a run, figures read and checked, lines in `metrics.jsonl`, progress.
    """
    plan = run.plan._replace(total_steps=MAX_INT, eval_every=MAX_INT, save_every=steps)
    state, done, timer = run.init_state(), 0, Timer()
    run, preemption = run._replace(plan=plan), Preemption()
    dispatch_size = DispatchSize(run.config.steps_per_dispatch)
    with Reporter(WorkDir(folder, run.config), run.config, plan, timer, 0) as reporter:
        on_metrics = metrics_handler(run, state, timer, reporter, lambda: None)

        def train() -> None:
            nonlocal state, done
            with timer.training():
                state, done, _ = train_to_pause(
                    run, programs, state, done, dispatch_size, preemption, on_metrics
                )
            jax.block_until_ready(state)

        yield train


def bare_steps(run: Experiment, dataset: Dataset) -> dict[str, Loop]:
    """The jitted step on one batch that never changes: called in a loop, and in a compiled loop."""
    train_step = make_train_step(run.config, run.model, run.tx, run.config.seed)
    size = run.config.data.batch_size
    rows = dataset.train.inputs[:size], dataset.train.labels[:size], np.ones(size, bool)
    batch = Batch(*jax.device_put(rows, run.sharding.batch))

    def several(state: TrainState, batch: Batch, count: jax.Array) -> TrainState:
        return jax.lax.fori_loop(0, count, lambda _, state: train_step(state, batch), state)

    def count(steps: int) -> jax.Array:
        return jax.device_put(np.int32(steps), run.sharding.replicated)

    states = [run.init_state(), run.init_state()]
    one, _ = compilation.compile_program(_jitted(train_step, run), states[0], batch)
    many, _ = compilation.compile_program(_jitted(several, run), states[1], batch, count(1))

    def called(steps: int) -> None:
        for _ in range(steps):
            states[0] = one(states[0], batch)
        jax.block_until_ready(states[0])

    def compiled(steps: int) -> None:
        states[1] = jax.block_until_ready(many(states[1], batch, count(steps)))

    return {"bare step, called": called, "bare step, compiled loop": compiled}


def _jitted(function: Callable[..., TrainState], run: Experiment):
    return jax.jit(function, donate_argnums=0, out_shardings=run.sharding.replicated)


def products(precision: str) -> tuple[Loop, float]:
    """Large matrix products one after the other, and the flops of one."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    normal = np.random.default_rng(0).standard_normal((2, size, size), np.float32)
    left, right = jnp.asarray(normal / np.sqrt(size), precision)  # so that no product overflows

    def chain(left: jax.Array, right: jax.Array, count: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, count, lambda _, product: product @ right, left)

    chained = jax.jit(chain, compiler_options=compilation.options())

    def multiply(count: int) -> None:
        jax.block_until_ready(chained(left, right, jnp.int32(count)))

    return multiply, 2.0 * size**3
