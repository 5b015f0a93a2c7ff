"""The functions of one run of a study, with its seed and learning rate as inputs of the program."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_gc import diagnostics
from train.data.batch import Examples
from train.data.class_counts import ClassCounts
from train.data.order import two_epochs
from train.engine import optimizers, schedules, state, step
from train.engine.evaluation import make_evaluate
from train.engine.optimizers import Measures, Optimizer
from train.engine.resident import make_train_steps
from train.engine.state import TrainState
from train.experiment import Experiment
from train.studies import landscape
from train.studies.landscape import Landscape
from train.studies.measures import FinalMeasures
from train.tasks.task import Evaluation, MetricSums


class RunFunctions(NamedTuple):
    """The functions of one run; can be jitted, and mapped over runs.

    All take the seed, int32 (), and the peak learning rate, float32 ().

    Attributes:
      run: The run; its seed and learning rate are not used.
      classes: The classes to sample from, or None to sample from all examples alike.
      landscape_examples: Training examples for `train.studies.landscape`; 0 to leave it out.
    """

    run: Experiment
    classes: ClassCounts | None
    landscape_examples: int

    def init_state(self, seed: jax.Array, rate: jax.Array, pretrained: Any) -> TrainState:
        """Return the state before the first step."""
        task = self.run.task
        return state.create(task.init, task.metrics, self._optimizer(rate), seed, pretrained)

    def train_steps(
        self,
        seed: jax.Array,
        rate: jax.Array,
        train_state: TrainState,
        split: Any,
        epoch_offset_count: jax.Array,
    ) -> tuple[Any, ...]:
        """Make some steps.

        `epoch_offset_count`, int32 (3,), is the epoch of the first step, its first example in the
        order of that epoch, and the number of steps.
        """
        functions = step.make(self.run.config, self.run.task, self._optimizer(rate), seed)
        plan = self.run.plan
        train_steps = make_train_steps(functions, plan.batch_size, None)
        classes = self.classes and ClassCounts(split.labels, jnp.asarray(self.classes.counts))
        order = two_epochs(seed, epoch_offset_count[0], plan.num_examples, classes)
        return train_steps(train_state, split, order, epoch_offset_count[1:])

    def measure(
        self,
        seed: jax.Array,
        rate: jax.Array,
        before: TrainState,
        grads: Any,
        train_split: Examples,
    ) -> tuple[Measures, Landscape | None]:
        """Return the measures of the update that these gradients give."""
        del seed
        update, measured = self._optimizer(rate).measure(grads, *before.of_optimizer)
        if not self.landscape_examples:
            return measured, None
        loss = landscape.training_loss(
            self.run.task, before.stats, train_split, self.landscape_examples
        )
        return measured, landscape.measure(loss, before.params, update)

    def evaluate(
        self,
        seed: jax.Array,
        rate: jax.Array,
        train_state: TrainState,
        train_split: Examples,
        test_split: Examples,
        pretrained: Any,
    ) -> FinalMeasures:
        """Return what is measured of the final weights."""
        del rate
        evaluations = self.run.task.evaluations(seed)

        def score(split: Examples, evaluation: Evaluation) -> MetricSums:
            count = split.num_examples
            batch_size = min(self.run.config.eval.batch_size, count)
            evaluate = make_evaluate(evaluation, batch_size, count, None)
            return evaluate(train_state.params, train_state.stats, split)

        params = train_state.params
        initial_params, _ = state.init_weights(self.run.task.init, seed, pretrained)
        drift = diagnostics.mean_drift(params, initial_params, self.run.optimizer.axes).distance
        return FinalMeasures(
            test={prefix: score(test_split, each) for prefix, each in evaluations.items()},
            train=score(train_split, evaluations[""]),
            mean_drift=drift,
            params_norm=optax.tree.norm(params),
        )

    def _optimizer(self, rate: jax.Array) -> Optimizer:
        run = self.run
        schedule = schedules.make_schedule(run.config, run.plan, rate)
        return optimizers.build(run.config, schedule, run.optimizer.axes, run.task.last_layer)
