"""What the runs of a study record during training, and of their final weights."""

from typing import Any

import jax

from train.engine.optimizers import Measures
from train.engine.state import MetricSums, sha256
from train.engine.step import StepMetrics
from train.output.metrics import finite_or_none
from train.studies.landscape import Landscape

Curve = dict[str, list[float | None]]


def extend_curve(
    curve: Curve,
    stop: int,
    metrics: StepMetrics,
    measures: Measures,
    landscape: Landscape | None = None,
) -> None:
    """Add the metrics after `stop` steps to the curve of a run."""
    means = finite_means(metrics.sums)
    point = {
        "step": stop,
        "loss": means["loss"],
        "top1": means["top1"],
        **{name: finite_or_none(value) for name, value in measures._asdict().items()},
    }
    if landscape:
        point |= {name: finite_or_none(value) for name, value in landscape._asdict().items()}
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
