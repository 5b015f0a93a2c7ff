"""`curves.png`: loss and top-1 accuracy over the epochs."""

from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from train.output.files import Line

_COLORS = {"train": "tab:blue", "test": "tab:orange"}


def draw_curves(file: Path, lines: list[Line], title: str) -> None:
    """Draw the lines of `metrics.jsonl`; a training line is the mean since the line before."""
    # Whatever the user's matplotlibrc says: it may need LaTeX or fonts that are not installed.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        _draw(lines, title).savefig(file, dpi=150)


def _draw(lines: list[Line], title: str) -> Figure:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    loss_axes, top1_axes = figure.subplots(1, 2)
    for split, color in _COLORS.items():
        split_lines = [line for line in lines if line["split"] == split]
        epochs = [line["epoch"] for line in split_lines]
        marker = "o" if len(epochs) < 30 else None
        style = {"color": color, "label": split, "marker": marker, "markersize": 3}
        loss_axes.plot(epochs, [_nan_if_none(line["loss"]) for line in split_lines], **style)
        top1 = [100 * _nan_if_none(line["top1"]) for line in split_lines]
        top1_axes.plot(epochs, top1, **style)
    loss_axes.set(xlabel="epoch", ylabel="cross-entropy (nats)", yscale="log")
    top1_axes.set(xlabel="epoch", ylabel="top-1 accuracy (%)")
    for axes in (loss_axes, top1_axes):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title.replace("$", r"\$"), fontsize=10)  # not a formula
    return figure


def _nan_if_none(value: float | None) -> float:
    return float("nan") if value is None else value
