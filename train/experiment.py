"""A run before its first step: everything that follows from the configuration."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import optax
from ml_collections import ConfigDict

from train import data, models
from train.data.dataset import Dataset
from train.engine import optimizers, plan, state, step
from train.engine.dispatch import Executor
from train.engine.plan import Plan
from train.engine.resident import ResidentExecutor
from train.engine.state import TrainState
from train.engine.streaming import StreamingExecutor
from train.models import Model
from train.runtime import mesh
from train.runtime.mesh import Sharding

if TYPE_CHECKING:
    from train.checkpoints.pretrained import PretrainedWeights
    from train.data.streaming.pipeline import Stream


class Experiment(NamedTuple):
    """Data, model, optimizer and plan of one configuration."""

    config: ConfigDict
    sharding: Sharding
    dataset: "Dataset | Stream"
    model: Model
    plan: Plan
    learning_rate: optax.Schedule
    axes: Any  # a pytree of optax_gc.FanIn, shaped like the parameters
    tx: optax.GradientTransformation
    initial: "PretrainedWeights | None"  # what it begins from, if not from random numbers

    def init_state(self) -> TrainState:
        """The state before the first step, on every device."""
        create = jax.jit(
            lambda initial: state.create(self.model, self.tx, self.config.seed, initial),
            out_shardings=self.sharding.replicated,
        )
        return create(self.initial and self.sharding.replicate(self.initial[:2]))

    def compile(self, like: TrainState) -> Executor:
        """Compiles the whole step for states like `like`; the data is at hand then."""
        steps = step.make(self.config, self.model, self.tx, self.learning_rate, self.config.seed)
        if isinstance(self.dataset, Dataset):
            return ResidentExecutor(self.config, self.dataset, self.sharding, steps, like)
        return StreamingExecutor(self.config, self.dataset, self.sharding, steps, like)


def prepare(
    config: ConfigDict,
    dataset: "Dataset | Stream | None" = None,
    devices: Sequence[jax.Device] | None = None,
    resumes: bool = False,
) -> Experiment:
    """Builds all that a run needs; writes nothing and compiles nothing.

    Args:
      config: a validated config.
      dataset: if it has been loaded already.
      devices: to run on; all if None.
      resumes: whether the run has begun, so that what it began from need not be there any more.

    Raises:
      UserError: the configuration does not fit the data, the devices, or what it begins from.
    """
    sharding = mesh.place(config, devices)
    dataset = dataset or data.load(config)
    model = models.build(config, dataset.num_classes, dataset.input_shape)
    todo = plan.make(config, dataset.num_train)
    learning_rate = optimizers.learning_rate(config, todo)
    axes = models.fan_in_axes(model)
    tx = optimizers.build(config, learning_rate, axes)
    initial = None
    if config.init_from and not resumes:
        from train.checkpoints import pretrained

        initial = pretrained.load(config, model)
    return Experiment(config, sharding, dataset, model, todo, learning_rate, axes, tx, initial)
