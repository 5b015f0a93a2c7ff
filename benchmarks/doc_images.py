"""Draw the plots of the documentation.

    python -m benchmarks.doc_images

Writes `docs/images/fan_in_means.png` and `docs/images/study_digits_loss.png`. The first shows what
is left of the fan-in means of a gradient. The second shows the training loss of the runs in
`results/study_digits/results.jsonl`.
"""

import json
import pathlib

import jax
import numpy as np
import optax
import scipy.stats
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import optax_gc

_ROOT = pathlib.Path(__file__).parents[1]
_IMAGES = _ROOT / "docs" / "images"
_RESULTS = _ROOT / "results" / "study_digits" / "results.jsonl"
_OPTIMIZERS = ("sgd", "momentum", "adagrad", "rmsprop", "adam")
# Line style and marker differ too, so that the plots can be read without colour.
_GC_STYLES = {
    "none": {"color": "tab:gray", "linestyle": "-", "label": "without GC"},
    "all": {"color": "tab:orange", "linestyle": "--", "label": "with GC"},
}


def draw_fan_in_means() -> Figure:
    """Draw the fan-in mean of each output unit of a Flax kernel's gradient."""
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 16, 32))
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axes = figure.subplots()
    styles = {
        "no centralization": (optax.identity(), "o", "-", "tab:gray"),
        "optax.centralize()": (optax.centralize(), "s", "--", "tab:orange"),
        "optax_gc.centralize()": (optax_gc.centralize(), "^", "-.", "tab:blue"),
    }
    for label, (tx, marker, linestyle, colour) in styles.items():
        grads = {"kernel": kernel}
        updates, _ = tx.update(grads, tx.init(grads))
        means = np.mean(updates["kernel"], (0, 1, 2))
        axes.plot(
            range(len(means)),
            means,
            marker=marker,
            markersize=4,
            linestyle=linestyle,
            linewidth=1.2,
            color=colour,
            label=label,
        )
    axes.set(xlabel="output unit of a 3x3x16x32 Flax kernel", ylabel="fan-in mean")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def draw_study_loss() -> Figure:
    """Draw the training loss of the digits study, with and without GC."""
    lines = [json.loads(line) for line in _RESULTS.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    *panels, empty = figure.subplots(2, 3, sharex=True, sharey=True).flat
    empty.set_axis_off()
    panels[2].tick_params(labelbottom=True)  # no panel is below it
    for axes, optimizer in zip(panels, _OPTIMIZERS, strict=True):
        for gc, style in _GC_STYLES.items():
            curves = [
                line["curve"]
                for line in lines
                if (line["kind"], line["optimizer"], line["gc"]) == ("final", optimizer, gc)
            ]
            middle, low, high = _geometric_interval([curve["loss"] for curve in curves])
            steps = curves[0]["step"]
            axes.fill_between(steps, low, high, color=style["color"], alpha=0.25, linewidth=0)
            axes.plot(steps, middle, linewidth=1.4, **style)
        axes.set(title=optimizer, yscale="log")
        axes.grid(alpha=0.3)
    figure.supxlabel("step", fontsize=10)
    figure.supylabel("training loss (nats)", fontsize=10)
    handles, labels = panels[0].get_legend_handles_labels()
    empty.legend(handles, labels, loc="center")
    return figure


def _geometric_interval(losses: list[list[float]]) -> list[np.ndarray]:
    """Return the geometric mean over runs at each step, and its 95 % interval."""
    logs = np.log(np.array(losses))
    middle = logs.mean(0)
    half = scipy.stats.t.ppf(0.975, len(logs) - 1) * logs.std(0, ddof=1) / np.sqrt(len(logs))
    return [np.exp(middle), np.exp(middle - half), np.exp(middle + half)]


def main() -> None:
    _IMAGES.mkdir(exist_ok=True)
    figures = {"fan_in_means": draw_fan_in_means(), "study_digits_loss": draw_study_loss()}
    for name, figure in figures.items():
        FigureCanvasAgg(figure)
        file = _IMAGES / f"{name}.png"
        figure.savefig(file, dpi=150, metadata={"Software": None})
        print(file)


if __name__ == "__main__":
    main()
