"""The pictures of a classifier: its confusion matrix, and the metrics of each class as bars."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_MAX_NAMED = 40  # more names than that cannot be read
_MAX_COUNTED = 12  # more counts than that cannot be read
_HATCHES = {"precision": "", "recall": "///"}  # so that a print without colors is readable


def draw(files: Sequence[Path], rows: list[dict[str, Any]], confusion: np.ndarray) -> None:
    """Draw a confusion matrix beside precision and recall of each class.

    Args:
      files: Files to write, each in the format of its suffix.
      rows: The result of `train.tasks.per_class.per_class_metrics`.
      confusion: The number of examples by class (rows) and predicted class (columns).
    """
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # whatever the user's matplotlibrc says
        # Letters that the font does not have are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        height = min(12.0, max(4.0, 0.28 * len(rows)))
        figure = Figure(figsize=(height + 6, height + 0.6), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, width_ratios=[height, 5])
        names = [str(row["class"]).replace("$", r"\$") for row in rows]
        _draw_confusion(left, names, confusion)
        _draw_bars(right, names, rows)
        for file in files:
            figure.savefig(file, dpi=120)


def _draw_confusion(ax: Axes, names: list[str], confusion: np.ndarray) -> None:
    shares = 100 * confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    image = ax.imshow(shares, cmap="Greys", vmin=0, vmax=100)
    ax.figure.colorbar(image, ax=ax, label="share of the class (%)", shrink=0.7)
    ax.set(xlabel="predicted class", ylabel="class")
    if len(names) <= _MAX_NAMED:
        ax.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        ax.set_yticks(range(len(names)), names, fontsize=8)
    if len(names) <= _MAX_COUNTED:
        for (row, column), count in np.ndenumerate(confusion):
            color = "white" if shares[row, column] > 50 else "black"
            ax.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8)


def _draw_bars(ax: Axes, names: list[str], rows: list[dict[str, Any]]) -> None:
    positions = np.arange(len(names))
    for offset, (metric, hatch) in zip((-0.2, 0.2), _HATCHES.items(), strict=True):
        values = [100 * (row[metric] or 0) for row in rows]
        ax.barh(positions + offset, values, 0.4, label=metric, hatch=hatch, edgecolor="white")
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set(xlabel="%", xlim=(0, 100))
    ax.set_yticks(positions, names, fontsize=8) if len(names) <= _MAX_NAMED else ax.set_yticks([])
    ax.grid(axis="x", alpha=0.3)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
