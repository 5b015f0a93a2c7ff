"""What the runs of a study record during training, and of their final weights."""

from typing import Any, NamedTuple

import jax
import optax

from train.engine import step
from train.engine.state import MetricSums, TrainState, sha256
from train.engine.step import StepFunctions, StepMetrics
from train.output.metrics import finite_or_none

Curve = dict[str, list[float | None]]


class Norms(NamedTuple):
    """Norms over all weights, each float32, ().

    Attributes:
      gradient_norm: Of the last gradient, before GC and weight decay.
      update_norm: Of the last update.
      param_norm: Of the weights.
    """

    gradient_norm: jax.Array
    update_norm: jax.Array
    param_norm: jax.Array


def with_norms(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return the same optimizer chain, which keeps the norms of gradient and update."""
    return optax.chain(
        optax.snapshot("gradient_norm", optax.tree.norm),
        tx,
        optax.snapshot("update_norm", optax.tree.norm),
    )


def add_norms(functions: StepFunctions, schedule: optax.Schedule) -> StepFunctions:
    """Return the same functions, whose metrics are a pair of `StepMetrics` and `Norms`."""

    def metrics(state: TrainState) -> tuple[StepMetrics, Norms]:
        norms = Norms(
            gradient_norm=optax.tree.get(state.opt_state, "gradient_norm"),
            update_norm=optax.tree.get(state.opt_state, "update_norm"),
            param_norm=optax.tree.norm(state.params),
        )
        return step.read_metrics(state, schedule), norms

    return functions._replace(metrics=metrics)  # type: ignore[arg-type]


def extend_curve(curve: Curve, stop: int, metrics: StepMetrics, norms: Norms) -> None:
    """Add the metrics after `stop` steps to the curve of a run."""
    means = finite_means(metrics.sums)
    point = {
        "step": stop,
        "loss": means["loss"],
        "top1": means["top1"],
        "gc_removed_fraction": finite_or_none(metrics.removed_fraction),
        **{name: finite_or_none(norm) for name, norm in norms._asdict().items()},
    }
    for name, value in point.items():
        curve.setdefault(name, []).append(value)


def final_result(
    params: Any, test: MetricSums, train: MetricSums, drift: jax.Array, norm: jax.Array
) -> dict[str, Any]:
    """Return the fields of a line of `results.jsonl` about the final weights.

    Args:
      params: The weights.
      test: The sums over the test split, or over the validation split.
      train: The sums over the training split, without augmentation.
      drift: The distance of the weights from the hyperplanes that they started in.
      norm: The norm of the weights.
    """
    return {
        **finite_means(test),
        **{f"train_{name}": value for name, value in finite_means(train).items()},
        "mean_drift": finite_or_none(drift),
        "params_norm": finite_or_none(norm),
        "params_sha256": sha256(params),
    }


def finite_means(sums: MetricSums) -> dict[str, float | None]:
    """Return the means of some sums; None for one that is not finite."""
    return {name: finite_or_none(value) for name, value in sums.means().items()}
