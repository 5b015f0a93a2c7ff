"""The numbers of a log line, as the compiled program leaves them and as the file has them."""

from typing import NamedTuple

import jax
import optax
from ml_collections import ConfigDict

from train.engine.nonfinite import NonFiniteState
from train.engine.optimizers import removed_fraction
from train.engine.state import MetricSums, TrainState


class StepMetrics(NamedTuple):
    """What the host reads of a state; a copy, because the next dispatch overwrites the state."""

    sums: MetricSums
    health: NonFiniteState
    learning_rate: jax.Array  # of the last step that was not skipped
    removed_fraction: jax.Array


def of(state: TrainState, learning_rate: optax.Schedule) -> StepMetrics:
    """The figures of a state, on the device."""
    return StepMetrics(
        state.sums,
        state.health,
        learning_rate(state.step - 1 - state.health.skipped),
        removed_fraction(state.opt_state),
    )


def for_log(figures: StepMetrics, config: ConfigDict) -> dict[str, float]:
    """The figures of a line of `metrics.jsonl`, on the host."""
    line = figures.sums.means() | {
        "learning_rate": float(figures.learning_rate),
        "gc_removed_fraction": float(figures.removed_fraction),
    }
    if config.nan_policy == "skip":
        line["skipped"] = int(figures.health.skipped)
    return line
