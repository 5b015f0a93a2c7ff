"""The figures of a whole split."""

from collections.abc import Iterable

import numpy as np

from train.data.batches import Batch
from train.state import Sums, TrainState
from train.step import EvalStep


def evaluate(eval_step: EvalStep, state: TrainState, batches: Iterable[Batch]) -> dict[str, float]:
    """Loss, top-1 and top-5 per example, every example counted exactly once."""
    sums = Sums(*np.zeros(len(Sums._fields), np.float32))
    for batch in batches:
        sums = eval_step(state.params, state.stats, sums, batch)
    return sums.means()
