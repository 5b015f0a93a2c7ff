"""`curves.png` and `curves.svg`: the metrics of a run over its epochs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from train.output.files import Line
from train.tasks.task import Headline

# Different colors and line styles, so that a print without colors is readable.
_STYLES: dict[str, dict[str, Any]] = {
    "train": {"color": "tab:blue", "linestyle": "-", "marker": "o"},
    "test": {"color": "tab:orange", "linestyle": "--", "marker": "s"},
}
_MAX_MARKERS = 30  # more of them hide the line


def draw_curves(files: Sequence[Path], lines: list[Line], title: str, headline: Headline) -> None:
    """Draw the lines of `metrics.jsonl`; a training line is the mean since the line before.

    Args:
      files: Files to write, each in the format of its suffix.
      lines: The lines.
      title: The title of the figure.
      headline: The metric beside the loss.
    """
    # Whatever the user's matplotlibrc says: it may need LaTeX or fonts that are not installed.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        figure = _draw(lines, title, headline)
        for file in files:
            figure.savefig(file, dpi=150)


def _draw(lines: list[Line], title: str, headline: Headline) -> Figure:
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3, sharex=True)
    panels = [
        _Panel(headline.loss_label, ("loss",), is_log=True),
        _Panel(headline.axis_label, (headline.name,), scale=100),
        _Panel("learning rate", ("learning_rate",)),
        _Panel("norm of gradient and update", ("grad_norm", "update_norm"), is_log=True),
        _Panel("norm of weights", ("param_norm",)),
        _Panel("removed by GC (%)", ("gc_removed_fraction",), scale=100),
    ]
    for panel, ax in zip(panels, axes.flat, strict=True):
        _draw_panel(ax, panel, lines)
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
    figure.suptitle(title.replace("$", r"\$"), fontsize=10)  # not a formula
    return figure


class _Panel(NamedTuple):
    """One plot: the label of its axis, and the metrics that are lines in it."""

    label: str
    metrics: tuple[str, ...]
    scale: float = 1
    is_log: bool = False


def _draw_panel(ax: Axes, panel: _Panel, lines: list[Line]) -> None:
    """Draw the metrics of a panel: a line for each split, or for each metric of one split."""
    for split in _STYLES:
        for metric, style in zip(panel.metrics, _STYLES.values(), strict=False):
            points = [line for line in lines if line["split"] == split and metric in line]
            if not points:
                continue
            by_metric = len(panel.metrics) > 1
            label = metric.replace("_norm", "") if by_metric else split
            every = -(-len(points) // _MAX_MARKERS) or None
            ax.plot(
                [line["epoch"] for line in points],
                [panel.scale * _nan_if_none(line[metric]) for line in points],
                label=label.replace("grad", "gradient"),
                markersize=3,
                markevery=every,
                **(style if by_metric else _STYLES[split]),
            )
    ax.set_ylabel(panel.label)
    if panel.is_log and _has_positive(panel, lines):
        ax.set_yscale("log")
    ax.grid(alpha=0.3)
    if len(ax.lines) > 1:
        ax.legend(handlelength=3)


def _has_positive(panel: _Panel, lines: list[Line]) -> bool:
    return any((line.get(metric) or 0) > 0 for line in lines for metric in panel.metrics)


def _nan_if_none(value: float | None) -> float:
    return float("nan") if value is None else value
