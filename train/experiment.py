"""A run before its first step: everything that follows from the configuration."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import optax
from ml_collections import ConfigDict

from train import data, mesh, models, optimizers, plan, state, step
from train.data import batches
from train.data.dataset import Dataset
from train.mesh import Placement
from train.models import Model
from train.plan import Plan
from train.state import TrainState


class Experiment(NamedTuple):
    """Data, model, optimizer and plan of one configuration."""

    config: ConfigDict
    placement: Placement
    dataset: Dataset
    model: Model
    plan: Plan
    learning_rate: optax.Schedule
    axes: Any  # a pytree of optax_gc.FanIn, shaped like the parameters
    tx: optax.GradientTransformation

    def first_state(self) -> TrainState:
        """The state before the first step, on every device."""
        create = jax.jit(
            lambda: state.create(self.model, self.tx, self.config.seed),
            out_shardings=self.placement.replicated,
        )
        return create()

    def compile_train_step(self, like: TrainState) -> step.TrainStep:
        """The whole step as one program, which overwrites the state that it is given."""
        lowered = lower_train_step(self.config, self.model, self.tx, self.placement, like)
        return lowered.compile()

    def compile_eval_step(self) -> step.EvalStep:
        """The evaluation of one batch; compiled when it is first called."""
        eval_step = step.make_eval_step(self.config, self.model)
        replicated, batch = self.placement
        return jax.jit(
            eval_step,
            in_shardings=(replicated, replicated, replicated, batch),
            out_shardings=replicated,
        )

    def train_batches(self, first_step: int, last_step: int) -> Iterator[batches.Batch]:
        """The batches of the steps from `first_step` up to, and without, `last_step`."""
        return batches.train_batches(
            self.dataset.train,
            self.config.seed,
            self.config.data.batch_size,
            first_step,
            last_step,
            self.placement.batch,
        )

    def test_batches(self) -> Iterator[batches.Batch]:
        """The test split, each example once."""
        batch_size = min(self.config.eval.batch_size, len(self.dataset.test.labels))
        batch_size = self.placement.round_up(batch_size)
        return batches.test_batches(self.dataset.test, batch_size, self.placement.batch)


def prepare(config: ConfigDict) -> Experiment:
    """Builds all that a run needs; writes nothing and compiles nothing.

    Raises:
      UserError: the configuration does not fit the data or the devices.
    """
    placement = mesh.place(config)
    dataset = data.load(config)
    model = models.build(config, dataset.num_classes, dataset.image_shape)
    todo = plan.make(config, len(dataset.train.labels))
    learning_rate = optimizers.learning_rate(config, todo)
    axes = models.fan_in_axes(model)
    tx = optimizers.build(config, learning_rate, axes)
    return Experiment(config, placement, dataset, model, todo, learning_rate, axes, tx)


def lower_train_step(
    config: ConfigDict,
    model: Model,
    tx: optax.GradientTransformation,
    placement: Placement,
    like: TrainState,
) -> jax.stages.Lowered:
    """The step of a batch from the host, ready to be compiled for the devices of `placement`.

    Args:
      config: a validated config.
      model: of the state.
      tx: of the state.
      placement: of the state and of the batch.
      like: the state, or its shapes with shardings.
    """
    batch = batches.shapes(config.data.batch_size, model.image_shape, placement.batch)
    train_step = step.make_train_step(config, model, tx)
    jitted = jax.jit(train_step, donate_argnums=0, out_shardings=placement.replicated)
    return jitted.lower(like, batch)
