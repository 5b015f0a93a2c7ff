"""The figures of a whole split."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp

from train.data.batches import Batch
from train.state import Sums, TrainState
from train.step import EvalStep


def evaluate(eval_step: EvalStep, state: TrainState, batches: Iterable[Batch]) -> dict[str, float]:
    """Loss, top-1 and top-5 per example, every example counted exactly once."""
    sums = Sums.zeros()
    for batch in batches:
        sums = jax.tree.map(jnp.add, sums, eval_step(state.params, state.stats, batch))
    return sums.means()
