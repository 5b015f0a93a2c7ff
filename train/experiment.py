"""A run before its first step: everything that follows from the configuration."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import optax
from ml_collections import ConfigDict

from train import data, models
from train.data.dataset import Dataset
from train.engine import optimizers, plan, state, step
from train.engine.dispatch import Programs
from train.engine.plan import Plan
from train.engine.resident import OnDevice
from train.engine.state import TrainState
from train.engine.streaming import Streamed
from train.models import Model
from train.runtime import mesh
from train.runtime.mesh import Placement

if TYPE_CHECKING:
    from train.checkpoints.pretrained import Initial
    from train.data.streaming.pipeline import Stream


class Experiment(NamedTuple):
    """Data, model, optimizer and plan of one configuration."""

    config: ConfigDict
    placement: Placement
    dataset: "Dataset | Stream"
    model: Model
    plan: Plan
    learning_rate: optax.Schedule
    axes: Any  # a pytree of optax_gc.FanIn, shaped like the parameters
    tx: optax.GradientTransformation
    initial: "Initial | None"  # what it begins from, if not from random numbers

    def first_state(self) -> TrainState:
        """The state before the first step, on every device."""
        create = jax.jit(
            lambda initial: state.create(self.model, self.tx, self.config.seed, initial),
            out_shardings=self.placement.replicated,
        )
        return create(self.initial and self.placement.replicate(self.initial[:2]))

    def compile(self, like: TrainState) -> Programs:
        """Compiles the whole step for states like `like`; the data is at hand then."""
        steps = step.make(self.config, self.model, self.tx, self.learning_rate, self.config.seed)
        if isinstance(self.dataset, Dataset):
            return OnDevice(self.config, self.dataset, self.placement, steps, like)
        return Streamed(self.config, self.dataset, self.placement, steps, like)


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
    placement = mesh.place(config, devices)
    dataset = dataset or data.load(config)
    model = models.build(config, dataset.num_classes, dataset.input_shape)
    todo = plan.make(config, dataset.num_train)
    learning_rate = optimizers.learning_rate(config, todo)
    axes = models.fan_in_axes(model)
    tx = optimizers.build(config, learning_rate, axes)
    initial = None
    if config.init_from and not resumes:
        from train.checkpoints import pretrained as init_from

        initial = init_from.load(config, model)
    return Experiment(config, placement, dataset, model, todo, learning_rate, axes, tx, initial)
