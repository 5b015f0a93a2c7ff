"""What the runs of a study record during training, and of their final weights."""

from typing import Any, NamedTuple

import jax

from train.engine.optimizers import Measures
from train.engine.state import sha256
from train.engine.step import StepMetrics
from train.output.metrics import finite_or_none
from train.studies.landscape import Landscape
from train.tasks.task import MetricSums, means, named_means

Curve = dict[str, list[float | None]]


class FinalMeasures(NamedTuple):
    """What is measured of the final weights.

    Attributes:
      test: The sums over the test split, or over the validation split, of each evaluation of the
        task, by the prefix of their metrics' names.
      train: The sums over the training split, without augmentation.
      mean_drift: The distance of the weights from the hyperplanes that they started in.
      params_norm: The norm of the weights.
    """

    test: dict[str, MetricSums]
    train: MetricSums
    mean_drift: jax.Array
    params_norm: jax.Array


def extend_curve(
    curve: Curve,
    stop: int,
    metrics: StepMetrics,
    measures: Measures,
    landscape: Landscape | None = None,
) -> None:
    """Add the metrics after `stop` steps to the curve of a run."""
    logged = means(metrics.sums)
    names: list[str] = [name for name in ("loss", "top1") if name in logged]
    point: dict[str, float | None] = {
        "step": stop,
        **{name: finite_or_none(logged[name]) for name in names},
        **{name: finite_or_none(value) for name, value in measures.by_name().items()},
    }
    if landscape:
        point |= {name: finite_or_none(value) for name, value in landscape._asdict().items()}
    for name, value in point.items():
        curve.setdefault(name, []).append(value)


def final_result(params: Any, final: FinalMeasures) -> dict[str, Any]:
    """Return the fields of a line of `results.jsonl` about the final weights."""
    sums = {**final.test, "train_": final.train}
    return {
        **{name: finite_or_none(value) for name, value in named_means(sums).items()},
        "mean_drift": finite_or_none(final.mean_drift),
        "params_norm": finite_or_none(final.params_norm),
        "params_sha256": sha256(params),
    }
