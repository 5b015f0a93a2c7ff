"""How long a run is, and after which steps something is logged, tested or saved."""

from typing import NamedTuple

from ml_collections import ConfigDict

from train.config.fields import MAX_INT
from train.data.order import epoch_end
from train.errors import UserError


class Plan(NamedTuple):
    """The steps of a run; a step number counts the steps that are done.

    Nothing is due before the first step, everything after the last one. No part of a plan grows
    with the length of the run.
    """

    total_steps: int
    batch_size: int
    num_examples: int
    log_every: int  # steps
    test_every: int  # epochs
    save_every: int  # steps; 0: after every test

    @property
    def steps_per_epoch(self) -> float:
        return self.num_examples / self.batch_size

    def epoch(self, step: int) -> float:
        """How many epochs `step` steps are."""
        return step / self.steps_per_epoch

    def logs(self, step: int) -> bool:
        """Whether the figures of training are written after `step` steps."""
        return step == self.total_steps or _is_multiple(self.log_every, step)

    def tests(self, step: int) -> bool:
        """Whether the test split is scored after `step` steps."""
        return step == self.total_steps or 0 < step == self._next_test(step - 1)

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is written after `step` steps."""
        if not self.save_every:
            return self.tests(step)
        return step == self.total_steps or _is_multiple(self.save_every, step)

    def next_pause(self, step: int) -> int:
        """The first step after `step` after which the training waits: for a test or a save."""
        next_save = _next_multiple(self.save_every, step) if self.save_every else self.total_steps
        return min(next_save, self._next_test(step), self.total_steps)

    def next_stop(self, step: int) -> int:
        """The first step after `step` after which there is something to do, if only to log."""
        return min(_next_multiple(self.log_every, step), self.next_pause(step))

    def _next_test(self, step: int) -> int:
        """The first step after `step` that completes a number of epochs to test after."""
        epochs_done = step * self.batch_size // self.num_examples
        next_epoch = _next_multiple(self.test_every, epochs_done)
        return epoch_end(next_epoch, self.batch_size, self.num_examples)


def make(config: ConfigDict, num_examples: int) -> Plan:
    """Plans a run over `num_examples` training examples.

    Raises:
      UserError: the batch is larger than the training split, or the run is longer than can be.
    """
    batch_size = config.data.batch_size
    if batch_size > num_examples:
        raise UserError(
            f"config.data.batch_size={batch_size} is more than the {num_examples} training "
            f"examples; use at most that many"
        )
    total = config.num_steps or epoch_end(config.num_epochs, batch_size, num_examples)
    if total > MAX_INT:
        raise UserError(
            f"config.num_epochs={config.num_epochs} is {total} steps; it must be at most "
            f"{MAX_INT} steps, which is {MAX_INT * batch_size // num_examples} epochs"
        )
    return Plan(
        total_steps=total,
        batch_size=batch_size,
        num_examples=num_examples,
        log_every=config.log_every_steps,
        test_every=config.eval.every_epochs,
        save_every=config.checkpoint.every_steps,
    )


def _is_multiple(of: int, step: int) -> bool:
    return step > 0 and step % of == 0


def _next_multiple(of: int, after: int) -> int:
    return (after // of + 1) * of
