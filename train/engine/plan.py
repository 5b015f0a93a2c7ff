"""The length of a run, and the steps after which it logs, evaluates and saves."""

from typing import NamedTuple

from ml_collections import ConfigDict

from train.config.types import MAX_INT
from train.data.order import epoch_end
from train.errors import UserError


class Plan(NamedTuple):
    """The steps of a run; a step number counts the completed steps.

    Nothing is due before the first step, and everything is due after the last one. The size of a
    plan does not depend on the length of the run.
    """

    total_steps: int
    batch_size: int
    num_examples: int
    log_every: int  # steps
    eval_every: int  # epochs
    save_every: int  # steps; 0: after every evaluation

    @property
    def steps_per_epoch(self) -> float:
        return self.num_examples / self.batch_size

    def epoch(self, step: int) -> float:
        """Return the number of epochs in `step` steps."""
        return step / self.steps_per_epoch

    def is_log_step(self, step: int) -> bool:
        """Return whether training metrics are logged after `step` steps."""
        return step == self.total_steps or _is_multiple(self.log_every, step)

    def is_eval_step(self, step: int) -> bool:
        """Return whether the test split is evaluated after `step` steps."""
        return step == self.total_steps or 0 < step == self._next_eval(step - 1)

    def is_save_step(self, step: int) -> bool:
        """Return whether a checkpoint is written after `step` steps."""
        if not self.save_every:
            return self.is_eval_step(step)
        return step == self.total_steps or _is_multiple(self.save_every, step)

    def next_pause(self, step: int) -> int:
        """Return the first step after `step` at which training waits: an evaluation or a save."""
        next_save = _next_multiple(self.save_every, step) if self.save_every else self.total_steps
        return min(next_save, self._next_eval(step), self.total_steps)

    def next_event(self, step: int) -> int:
        """Return the first step after `step` with an evaluation, a save or a log line."""
        return min(_next_multiple(self.log_every, step), self.next_pause(step))

    def _next_eval(self, step: int) -> int:
        epochs = step * self.batch_size // self.num_examples
        next_epoch = _next_multiple(self.eval_every, epochs)
        return epoch_end(next_epoch, self.batch_size, self.num_examples)


def make(config: ConfigDict, num_examples: int) -> Plan:
    """Return the plan of a run over `num_examples` training examples.

    Raises:
      UserError: If the batch is larger than the training split, or the run has too many steps.
    """
    batch_size = config.data.batch_size
    if batch_size > num_examples:
        raise UserError(
            f"config.data.batch_size={batch_size} is more than the {num_examples} training "
            f"examples; use at most {num_examples}"
        )
    total = config.num_steps or epoch_end(config.num_epochs, batch_size, num_examples)
    if total > MAX_INT:
        raise UserError(
            f"config.num_epochs={config.num_epochs} is {total} steps; use at most {MAX_INT} steps, "
            f"which is {MAX_INT * batch_size // num_examples} epochs"
        )
    return Plan(
        total_steps=total,
        batch_size=batch_size,
        num_examples=num_examples,
        log_every=config.log_every_steps,
        eval_every=config.eval.every_epochs,
        save_every=config.checkpoint.every_steps,
    )


def _is_multiple(of: int, step: int) -> bool:
    return step > 0 and step % of == 0


def _next_multiple(of: int, after: int) -> int:
    return (after // of + 1) * of
