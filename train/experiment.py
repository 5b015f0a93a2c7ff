"""A run before its first step: everything that follows from its config."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import jax
from ml_collections import ConfigDict

from train import data, tasks
from train.data import class_counts, standardization
from train.data.dataset import AnyDataset, Stream, is_in_memory
from train.data.inputs import example_unit
from train.engine import optimizers, plan, schedules, state, step
from train.engine.dispatch import Executor
from train.engine.optimizers import Optimizer
from train.engine.plan import Plan
from train.engine.resident import ResidentExecutor
from train.engine.state import TrainState
from train.engine.streaming import StreamingExecutor
from train.runtime import mesh
from train.runtime.compilation import Cost
from train.runtime.mesh import Sharding
from train.tasks.task import Task

if TYPE_CHECKING:
    from train.checkpoints.pretrained import PretrainedWeights


class Experiment(NamedTuple):
    """The data, task, optimizer and plan of one config.

    Attributes:
      config: The validated config, with the figures that `data.mean` and `data.std` ask to measure.
      sharding: The devices, and how arrays are placed on them.
      dataset: The data set: in memory, or streamed.
      task: What the run learns, with its network.
      plan: The steps of the run.
      optimizer: The optimizer, with its schedule and the fan-in axes of the parameters.
      pretrained: The weights that the run starts from, or None for random weights.
    """

    config: ConfigDict
    sharding: Sharding
    dataset: AnyDataset
    task: Task
    plan: Plan
    optimizer: Optimizer
    pretrained: "PretrainedWeights | None"

    def init_state(self) -> TrainState:
        """Return the state before the first step, on every device."""
        create = jax.jit(
            lambda weights: state.create(
                self.task.init, self.task.metrics, self.optimizer, self.config.seed, weights
            ),
            out_shardings=self.sharding.replicated,
        )
        return create(self.pretrained and self.sharding.replicate(self.pretrained[:2]))

    def compile(self, like: TrainState) -> Executor:
        """Compile the run for states like `like`, and open its data."""
        functions = step.make(self.config, self.task, self.optimizer, self.config.seed)
        if is_in_memory(self.dataset):
            return ResidentExecutor(
                self.config, self.dataset, self.sharding, self.task, functions, like
            )
        stream = cast(Stream, self.dataset)
        return StreamingExecutor(self.config, stream, self.sharding, self.task, functions, like)


def prepare(
    config: ConfigDict,
    dataset: AnyDataset | None = None,
    devices: Sequence[jax.Device] | None = None,
    resumes: bool = False,
    announce: Callable[[str], None] = lambda phase: None,
) -> Experiment:
    """Build everything that a run needs; write and compile nothing.

    Args:
      config: A validated config.
      dataset: The data set, if it is already loaded.
      devices: The devices to run on; all if None.
      resumes: Whether the run has a checkpoint, so that `config.init_from` need not exist.
      announce: Is called with the name of each phase that can take seconds, before it.

    Raises:
      UserError: If the config does not fit the data, the devices or the weights to start from.
    """
    sharding = mesh.make_sharding(config, devices)
    if dataset is None:
        announce(f"loading the data set {config.data.name}")
        dataset = data.load(config)
    if standardization.is_requested(config):
        announce("measuring the mean and the standard deviation of the training pixels")
        config = standardization.fill_in(config, standardization.measure(config, dataset))
    class_counts.for_sampling(config, dataset)  # raises before anything is compiled
    task = tasks.build(config, dataset)
    run_plan = plan.make(config, dataset.num_train)
    schedule = schedules.make_schedule(config, run_plan)
    announce(f"tracing {config.model.name} to find the input axes of its weights")
    optimizer = optimizers.build(config, schedule, task.fan_in_axes(), task.last_layer)
    weights = None
    if config.init_from and not resumes:
        from train.checkpoints import pretrained  # imports Orbax, which takes a second

        announce(f"reading the weights of {config.init_from}")
        weights = pretrained.load(config, task)
    return Experiment(config, sharding, dataset, task, run_plan, optimizer, weights)


def run_title(config: ConfigDict) -> str:
    """Return one line with the model, the data, the optimizer and GC."""
    gc = "without GC" if config.gc.mode == "none" else f"GC {config.gc.mode}"
    return f"{config.model.name} on {config.data.name}, {config.optimizer.name}, {gc}"


def describe_run(run: Experiment, train_state: TrainState, cost: Cost) -> str:
    """Return some lines with the sizes, the devices, the compiled step and the first step."""
    num_params = sum(leaf.size for leaf in jax.tree.leaves(train_state.params))
    first_step = int(train_state.step)
    start = f"resuming after step {first_step:,}" if first_step else "starting at step 0"
    if run.pretrained:
        names = " and ".join("/".join(map(str, path)) for path in sorted(run.task.last_layer()))
        kept = "its" if run.config.init_head else "a new"
        start += f" from {run.pretrained.source}, with {kept} last layer ({names})"
    return (
        f"{run_title(run.config)}\n"
        f"{run.dataset.num_train:,} training {example_unit(run.config)}, "
        f"{run.dataset.num_test:,} test {example_unit(run.config)}; {num_params:,} parameters\n"
        f"{run.plan.total_steps:,} steps of {run.config.data.batch_size} on "
        f"{run.sharding.num_devices} {jax.default_backend()} device(s)\n"
        f"compiled in {cost.compile_seconds:.1f} s; one step takes {cost.flops / 1e9:,.1f} GFLOP "
        f"and {cost.bytes_per_device / 2**20:,.0f} MiB per device, data included\n"
        f"{start}"
    )
