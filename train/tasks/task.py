"""What the trainer asks of a task, the only part of a run that knows its examples and its loss.

The training loop, the optimizer, checkpoints, dispatches, resuming and studies use these methods
and nothing else.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from train.data.dataset import AnyDataset
from train.models.last_layer import Layers

MetricSums = dict[str, jax.Array]
"""The sum of each metric over examples, and the number of `examples`; each float32, ()."""


def zero_sums(metrics: Sequence[str]) -> MetricSums:
    """Return the sums over no examples."""
    return {name: jnp.zeros(()) for name in ("examples", *metrics)}


def means(sums: MetricSums) -> dict[str, float]:
    """Return the mean of each metric per example, on the host; NaN if there are no examples."""
    totals = {name: float(value) for name, value in jax.device_get(sums).items()}
    examples = totals.pop("examples")
    return {name: total / examples if examples else float("nan") for name, total in totals.items()}


def named_means(sums: dict[str, MetricSums]) -> dict[str, float]:
    """Return the means of some evaluations, by their prefix and the name of the metric."""
    return {
        f"{prefix}{name}": value
        for prefix, each in sums.items()
        for name, value in means(each).items()
    }


class Headline(NamedTuple):
    """The metric that runs are compared by: a share in 0..1, of which more is better.

    Attributes:
      name: Its name in `metrics.jsonl` and in the results of studies.
      label: Its name on the terminal and in tables.
      axis_label: The label of its axis in plots, where it is in percent.
      loss_label: The label of the axis of the loss.
    """

    name: str
    label: str
    axis_label: str
    loss_label: str = "loss"


class Evaluation(NamedTuple):
    """A pass over a split that adds up metrics.

    Attributes:
      metrics: The names of the metrics.
      add: `(params, stats, sums, batch) -> sums`: adds the examples of a batch that are not masked.
    """

    metrics: tuple[str, ...]
    add: Callable[[Any, Any, MetricSums, Any], MetricSums]


def summary_name(task: "type[Task]", name: str) -> str:
    """Return the name of a test metric in a summary; scores are only of the test split."""
    return name if name in task.scores else f"test_{name}"


class Task(Protocol):
    """What a run learns.

    The methods with a batch are pure functions of their arguments that JAX can trace. A batch is
    what `to_batch` of the examples of the data set returns. `params` and `stats` are the two nested
    dicts of `init`.

    Attributes:
      metrics: The names of the metrics that training adds up; the first is "loss".
      scores: The names of the metrics that an evaluation computes on the host, from the outputs for
        the whole split; empty if it needs no outputs.
      headline: The metric that runs are compared by: one of the metrics or scores.
      picture: The name of the file that `draw` makes for a run, without its suffix.
      backbone: The name of the part of the network that the weights of an image classifier fit;
        empty for the whole network.
    """

    metrics: ClassVar[tuple[str, ...]]
    scores: ClassVar[tuple[str, ...]]
    headline: ClassVar[Headline]
    picture: ClassVar[str]
    backbone: ClassVar[str]

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """Return random parameters, and all other arrays, such as running statistics."""

    def fan_in_axes(self) -> Any:
        """Return a pytree of `optax_gc.FanIn` with the structure of the parameters."""

    def last_layer(self) -> Layers:
        """Return the paths of the last layers in the parameters; the others are the body."""

    def prepare(self, batch: Any) -> Any:
        """Return a batch whose inputs are what the model is applied to."""

    def augment(self, key: jax.Array, batch: Any, params: Any, stats: Any) -> Any:
        """Return a batch as `prepare` does, with the random changes of training.

        The result is a pytree whose arrays have the batch as first axis.

        Args:
          key: The random key of the step.
          batch: The examples as they are stored.
          params: The parameters, for changes that depend on them, such as attacks.
          stats: The running statistics.
        """

    def loss(
        self, params: Any, stats: Any, batch: Any, key: jax.Array
    ) -> tuple[jax.Array, tuple[Any, MetricSums]]:
        """Return the mean loss of a prepared batch, the new statistics, and the sums.

        Args:
          params: The parameters, for which the loss is differentiated.
          stats: The running statistics.
          batch: A batch of `augment` or `prepare`.
          key: The random key of the step, as in `augment`.
        """

    def evaluations(self, seed: jax.typing.ArrayLike) -> dict[str, Evaluation]:
        """Return the evaluations of the test split by the prefix of their metrics' names.

        The first one has the prefix "".
        """

    def predict(self, params: Any, stats: Any, batch: Any) -> Any:
        """Return the outputs for a batch as it is stored: a pytree of arrays (batch, ...)."""

    def score(self, predictions: Any, dataset: AnyDataset) -> dict[str, float]:
        """Return the scores of a whole split, on the host; NaN for one that is undefined.

        Args:
          predictions: The outputs of `predict` for all examples, without padding, as NumPy arrays.
          dataset: The data set whose test split they are of.
        """

    def score_classes(self, predictions: Any, dataset: AnyDataset) -> list[dict[str, Any]]:
        """Return the metrics of each class, as a row of a table with its name; see `score`."""

    def draw(
        self, predictions: Any, rows: list[dict[str, Any]], dataset: AnyDataset, file: Path
    ) -> None:
        """Draw the outputs for a whole split.

        Args:
          predictions: As for `score`.
          rows: The result of `score_classes`.
          dataset: As for `score`.
          file: A PNG file to write; an SVG file may be written beside it.
        """
