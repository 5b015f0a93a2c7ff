"""`curves.png` and `curves.svg`: loss and top-1 accuracy over the epochs."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from train.output.files import Line

# Different colors and line styles, so that a print without colors is readable.
_STYLES = {
    "train": {"color": "tab:blue", "linestyle": "-", "marker": "o"},
    "test": {"color": "tab:orange", "linestyle": "--", "marker": "s"},
}
_MAX_MARKERS = 30  # more of them hide the line


def draw_curves(files: Sequence[Path], lines: list[Line], title: str) -> None:
    """Draw the lines of `metrics.jsonl`; a training line is the mean since the line before.

    Args:
      files: Files to write, each in the format of its suffix.
      lines: The lines.
      title: The title of the figure.
    """
    # Whatever the user's matplotlibrc says: it may need LaTeX or fonts that are not installed.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        figure = _draw(lines, title)
        for file in files:
            figure.savefig(file, dpi=150)


def _draw(lines: list[Line], title: str) -> Figure:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    loss_axes, top1_axes = figure.subplots(1, 2)
    for split, split_style in _STYLES.items():
        split_lines = [line for line in lines if line["split"] == split]
        epochs = [line["epoch"] for line in split_lines]
        every = -(-len(epochs) // _MAX_MARKERS) or None
        style = {"label": split, "markersize": 3, "markevery": every, **split_style}
        loss_axes.plot(epochs, [_nan_if_none(line["loss"]) for line in split_lines], **style)
        top1 = [100 * _nan_if_none(line["top1"]) for line in split_lines]
        top1_axes.plot(epochs, top1, **style)
    loss_axes.set(xlabel="epoch", ylabel="cross-entropy (nats)", yscale="log")
    top1_axes.set(xlabel="epoch", ylabel="top-1 accuracy (%)")
    for axes in (loss_axes, top1_axes):
        axes.grid(alpha=0.3)
        axes.legend(handlelength=3)
    figure.suptitle(title.replace("$", r"\$"), fontsize=10)  # not a formula
    return figure


def _nan_if_none(value: float | None) -> float:
    return float("nan") if value is None else value
