"""How long a run is, and after which steps something is logged, tested or saved."""

from typing import NamedTuple

from ml_collections import ConfigDict

from train.data.order import epoch_end
from train.errors import UserError


class Plan(NamedTuple):
    """The steps of a run; a step number counts the steps that are done."""

    total_steps: int
    steps_per_epoch: float
    log: frozenset[int]
    test: frozenset[int]
    save: frozenset[int]

    def next_stop(self, step: int) -> int:
        """The first step after `step` after which there is something to do."""
        return min(stop for stop in self.log | self.test | self.save if stop > step)

    def epoch(self, step: int) -> float:
        """How many epochs `step` steps are."""
        return step / self.steps_per_epoch


def make(config: ConfigDict, num_examples: int) -> Plan:
    """Plans a run over `num_examples` training examples.

    Raises:
      UserError: the batch is larger than the training split.
    """
    batch_size = config.data.batch_size
    if batch_size > num_examples:
        raise UserError(
            f"config.data.batch_size={batch_size} is more than the {num_examples} training examples"
        )
    total = config.num_steps or epoch_end(config.num_epochs, batch_size, num_examples)
    epochs = range(0, total * batch_size // num_examples + 1, config.eval.every_epochs)
    ends = {epoch_end(epoch, batch_size, num_examples) for epoch in epochs} - {0}
    test = frozenset({step for step in ends if step <= total} | {total})
    every = config.checkpoint.every_steps
    return Plan(
        total_steps=total,
        steps_per_epoch=num_examples / batch_size,
        log=_multiples(config.log_every_steps, total),
        test=test,
        save=_multiples(every, total) if every else test,
    )


def _multiples(every: int, total: int) -> frozenset[int]:
    return frozenset(range(every, total, every)) | {total}
