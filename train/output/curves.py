"""`curves.png` and `curves.svg`: the loss and the headline metric over the epochs."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from train.output.files import Line
from train.tasks.task import Headline

# Different colors and line styles, so that a print without colors is readable.
_STYLES = {
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
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    loss_axes, score_axes = figure.subplots(1, 2)
    for split, split_style in _STYLES.items():
        split_lines = [line for line in lines if line["split"] == split]
        epochs = [line["epoch"] for line in split_lines]
        every = -(-len(epochs) // _MAX_MARKERS) or None
        style = {"label": split, "markersize": 3, "markevery": every, **split_style}
        loss_axes.plot(epochs, [_nan_if_none(line["loss"]) for line in split_lines], **style)
        scores = [100 * _nan_if_none(line[headline.name]) for line in split_lines]
        score_axes.plot(epochs, scores, **style)
    loss_axes.set(xlabel="epoch", ylabel="cross-entropy (nats)", yscale="log")
    score_axes.set(xlabel="epoch", ylabel=headline.axis_label)
    for axes in (loss_axes, score_axes):
        axes.grid(alpha=0.3)
        axes.legend(handlelength=3)
    figure.suptitle(title.replace("$", r"\$"), fontsize=10)  # not a formula
    return figure


def _nan_if_none(value: float | None) -> float:
    return float("nan") if value is None else value
