"""The plots of a report, each narrow enough for the screen of a phone."""

import io
import math
import textwrap
from collections.abc import Callable
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from train.studies import design
from train.studies.report import statistics
from train.studies.report.labels import setting_label
from train.studies.report.summary import ArmResult, Comparison, Summary

_DrawArm = Callable[[Axes, ArmResult, dict], Line2D]
_WIDTH = 5.0  # inches
_LABELS_BY_RATIO = {10: (1, 1.5, 2, 3, 5, 7), 500: (1, 2, 5)}
"""The labels of a decade for which an axis has room, by the ratio of its ends."""
_LABEL_CHARS = 26
_COLORS = ("tab:gray", "tab:orange", "tab:blue", "tab:green", "tab:purple")
_LINE_STYLES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))  # one for each kind of GC


class Plot(NamedTuple):
    """A plot as an SVG.

    Attributes:
      name: The name of its file, without the suffix.
      caption: What it shows.
      svg: The content of the file.
    """

    name: str
    caption: str
    svg: str


def draw(summary: Summary) -> list[Plot]:
    """Return each plot that has data."""
    # Whatever the user's matplotlibrc says: it may need LaTeX or fonts that are not installed.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["svg.hashsalt"] = "optax_gc"  # the same summary, the same bytes
        figures = make_figures(summary)
        return [Plot(name, caption, _to_svg(figure)) for name, (caption, figure) in figures.items()]


def make_figures(summary: Summary) -> dict[str, tuple[str, Figure]]:
    """Return the caption and the figure of each plot that has data, by name."""
    figures, label = {}, summary.headline.label
    if any(row.difference.mean.n for row in summary.comparisons):
        caption = (
            f"Difference in test {label} of each seed (dots), their mean and its 95 % interval"
        )
        figures["differences"] = caption, _differences(summary)
    if any(arm.finite_lines for arm in summary.arms):
        for title, name in (("Training loss", "loss"), ("Gradient norm", "grad_norm")):
            caption = f"{title}, geometric mean over the seeds and its 95 % interval"
            figures[name] = caption, _curves(summary, title.lower(), name)
    if any(arm.rate.scores for arm in summary.arms):
        caption = f"Validation {label} by learning rate; a ring marks the chosen rate"
        if any(math.isinf(score.loss) for arm in summary.arms for score in arm.rate.scores):
            caption += "; rates at which a run diverged have no point"
        figures["learning_rates"] = caption, _rate_scores(summary)
    return figures


def _differences(summary: Summary) -> Figure:
    """Draw one row for each comparison: a dot for each pair, the mean and its interval."""
    rows = summary.comparisons
    figure = _empty_figure(0.9 + 0.45 * len(rows))
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    for index, row in enumerate(rows):
        points = np.subtract(row.other_scores, row.reference_scores)
        heights = index + rng.uniform(-0.18, 0.18, len(points))
        axes.plot(points, heights, "o", color="tab:gray", alpha=0.5, markersize=4)
        mean = row.difference.mean
        if mean.n:
            half_width = np.nan_to_num(mean.half_width)
            axes.errorbar(mean.value, index, xerr=half_width, fmt="D", color="black", capsize=4)
    axes.axvline(0, color="tab:gray", linewidth=1)
    labels = [_comparison_label(row, summary) for row in rows]
    axes.set_yticks(range(len(rows)), labels, parse_math=False)
    axes.set(xlabel="difference in points", ylim=(len(rows) - 0.5, -0.5))
    axes.grid(alpha=0.3, axis="x")
    return figure


def _curves(summary: Summary, ylabel: str, name: str) -> Figure:
    """Draw one value of the curves by step."""

    def draw_arm(axes: Axes, arm: ArmResult, style: dict) -> Line2D:
        lines = arm.finite_lines
        if not lines:
            return axes.plot([], [], **style)[0]
        steps = lines[0]["curve"]["step"]
        curves = np.array([line["curve"][name] for line in lines], float)  # None becomes NaN
        middle, low, high = _bands(curves)
        axes.fill_between(steps, low, high, color=style["color"], alpha=0.25, linewidth=0)
        return axes.plot(steps, middle, **style)[0]

    figure, panels = _panels(summary, draw_arm, "linear", "log")
    for axes in panels.values():
        # Matplotlib's own labels overlap on small panels.
        low, high = axes.get_ylim()
        subs = next((subs for ratio, subs in _LABELS_BY_RATIO.items() if high < ratio * low), (1,))
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    figure.supxlabel("step", fontsize=10)
    figure.supylabel(ylabel, fontsize=10)
    return figure


def _rate_scores(summary: Summary) -> Figure:
    """Draw the validation score of each rate, without rates at which a run diverged."""

    def draw_arm(axes: Axes, arm: ArmResult, style: dict) -> Line2D:
        rates = [score.rate for score in arm.rate.scores]
        values = [100 * s.score if math.isfinite(s.loss) else math.nan for s in arm.rate.scores]
        chosen = [y for rate, y in zip(rates, values, strict=True) if rate == arm.rate.value]
        ring = {"markersize": 9, "markerfacecolor": "none", "color": style["color"]}
        axes.plot([arm.rate.value] * len(chosen), chosen, "o", **ring)
        return axes.plot(rates, values, marker="o", markersize=3, **style)[0]

    figure, panels = _panels(summary, draw_arm, "log", "linear")
    figure.supxlabel("learning rate", fontsize=10)
    figure.supylabel(f"{summary.headline.label} (%)", fontsize=10)
    for setting, axes in panels.items():
        rates = design.rates(summary.study, setting)
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axes.set_xticks([], minor=True)
        margin = (rates[-1] / rates[0]) ** 0.05 if len(rates) > 1 else 2.0
        axes.set_xlim(rates[0] / margin, rates[-1] * margin)
    figure.draw_without_rendering()  # gives the labels their places
    for axes in panels.values():
        _hide_overlapping_labels(axes, figure.dpi)
    return figure


def _panels(summary: Summary, draw_arm: _DrawArm, xscale: str, yscale: str) -> tuple[Figure, dict]:
    """Draw a panel for each setting with one line for each of its arms.

    Returns:
      The figure, and the axes of each setting.
    """
    settings = list(dict.fromkeys(arm.arm.setting for arm in summary.arms))
    columns = min(2, len(settings))
    rows = -(-len(settings) // columns)
    figure = _empty_figure(0.5 + 1.75 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(settings) :]:
        axes.set_axis_off()
    panels = dict(zip(settings, grid.flat, strict=False))
    handles: dict[str, Line2D] = {}
    for setting, axes in panels.items():
        axes.set(xscale=xscale, yscale=yscale)
        axes.set_title(_wrap(setting_label(setting, summary.study)), fontsize=10, parse_math=False)
        axes.grid(alpha=0.3)
    for arm in summary.arms:
        index = summary.study.gc.index(arm.arm.gc)
        style = {"color": _COLORS[index], "linestyle": _LINE_STYLES[index], "linewidth": 1.4}
        handles.setdefault(f"GC {arm.arm.gc}", draw_arm(panels[arm.arm.setting], arm, style))
    figure.legend(
        list(handles.values()), list(handles), loc="outside upper center", ncols=3, handlelength=3
    )
    return figure, panels


def _bands(curves: np.ndarray) -> list[np.ndarray]:
    """Return the geometric mean over the seeds at each point, and the ends of its interval.

    The interval is that of the logarithms: the axis is logarithmic, and the interval must stay
    above 0.

    Args:
      curves: Shape (seeds, points).

    Returns:
      Mean, lower end and upper end, each of shape (points,).
    """
    logs = np.log(np.maximum(curves, np.finfo(np.float32).tiny))
    means = [statistics.mean(list(column)) for column in logs.T]
    middle = np.array([mean.value for mean in means])
    half_width = np.nan_to_num([mean.half_width for mean in means])
    return [np.exp(middle), np.exp(middle - half_width), np.exp(middle + half_width)]


def _hide_overlapping_labels(axes: Axes, dpi: float) -> None:
    """Hide each label of the x axis that would touch the label before it; the ticks stay."""
    gap = 0.04 * dpi  # inches to pixels
    end = -math.inf
    for tick in axes.xaxis.get_major_ticks():
        box = tick.label1.get_window_extent()
        if box.x0 < end + gap:
            tick.label1.set_visible(False)
        else:
            end = box.x1


def _comparison_label(row: Comparison, summary: Summary) -> str:
    label = setting_label(row.other.arm.setting, summary.study)
    return _wrap(f"{label}, {row.other.arm.gc}" if len(summary.study.gc) > 2 else label)


def _wrap(label: str) -> str:
    return textwrap.fill(label, _LABEL_CHARS)


def _empty_figure(height: float) -> Figure:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _to_svg(figure: Figure) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()
