"""The figures of a whole split."""

from collections.abc import Iterable

import jax

from train.data.batches import Batch
from train.state import TrainState
from train.step import EvalStep


def evaluate(eval_step: EvalStep, state: TrainState, batches: Iterable[Batch]) -> dict[str, float]:
    """Loss, top-1 and top-5 per example, every example counted exactly once."""
    sums = [eval_step(state.params, state.stats, batch) for batch in batches]
    return jax.tree.map(lambda *leaves: sum(leaves), *sums).means()
