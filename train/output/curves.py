"""`curves.png`: loss and top-1 accuracy over the epochs."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from train.output.metrics import Line

_COLOURS = {"train": "tab:blue", "test": "tab:orange"}


def draw_curves(file: Path, lines: list[Line], title: str) -> None:
    """Draws the lines of `metrics.jsonl`; training is a mean since the line before."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    loss_axes, top1_axes = figure.subplots(1, 2)
    for split, colour in _COLOURS.items():
        of_split = [line for line in lines if line["split"] == split]
        epochs = [line["epoch"] for line in of_split]
        marker = "o" if len(epochs) < 30 else None
        style = {"color": colour, "label": split, "marker": marker, "markersize": 3}
        loss_axes.plot(epochs, [_or_gap(line["loss"]) for line in of_split], **style)
        top1_axes.plot(epochs, [100 * _or_gap(line["top1"]) for line in of_split], **style)
    loss_axes.set(xlabel="epoch", ylabel="cross-entropy (nats)", yscale="log")
    top1_axes.set(xlabel="epoch", ylabel="top-1 accuracy (%)")
    for axes in (loss_axes, top1_axes):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title, fontsize=10)
    figure.savefig(file, dpi=150)


def _or_gap(value: float | None) -> float:
    return float("nan") if value is None else value
