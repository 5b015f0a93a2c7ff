"""The plots of a report, each narrow enough to be read on a phone."""

import io
import math
from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from train.studies.report import statistics
from train.studies.report.summary import ArmResult, Summary

_Draw = Callable[[Axes, ArmResult, dict], Line2D]
_WIDTH = 5.0  # inches
_COLOURS = ("tab:gray", "tab:orange", "tab:blue", "tab:green", "tab:purple")
_STYLES = ("-", "--", "-.", ":", "-")  # so that lines that coincide can both be seen


def draw(summary: Summary) -> dict[str, bytes]:
    """All plots that there is something for: what each shows, and its PNG."""
    plots = {}
    if summary.comparisons:
        plots["Test top-1 with GC less that without, by seed"] = _differences(summary)
    for title, name in (("Training loss", "loss"), ("Norm of the gradient", "gradient_norm")):
        plots[f"{title}, geometric mean over the seeds and its 95 % interval"] = _panels(
            summary, "step", title.lower(), _curve_of(name), ("linear", "log")
        )
    if any(arm.rate.scores for arm in summary.arms):
        plots["Validation top-1 by learning rate; the chosen rate is marked"] = _panels(
            summary, "learning rate", "top-1 (%)", _sensitivity, ("log", "linear")
        )
    return plots


def _differences(summary: Summary) -> bytes:
    """Every pair as a dot, and the mean with its interval."""
    rows = summary.comparisons
    figure, axes = _figure(0.9 + 0.45 * len(rows))
    rng = np.random.default_rng(0)
    for place, row in enumerate(rows):
        pairs = zip(row.without.lines, row.with_gc.lines, strict=True)
        dots = [100 * (b["top1"] - a["top1"]) for a, b in pairs]
        heights = place + rng.uniform(-0.18, 0.18, len(dots))
        axes.plot(dots, heights, "o", color="tab:gray", alpha=0.5, markersize=4)
        mean = row.difference.mean
        width = 0.0 if math.isnan(mean.half_width) else mean.half_width
        axes.errorbar(mean.value, place, xerr=width, fmt="D", color="black", capsize=4)
    axes.axvline(0, color="tab:gray", linewidth=1)
    axes.set_yticks(range(len(rows)), [_label(row.with_gc, summary) for row in rows])
    axes.set(xlabel="difference in points", ylim=(len(rows) - 0.5, -0.5))
    axes.grid(alpha=0.3, axis="x")
    return _png(figure)


def _panels(
    summary: Summary,
    xlabel: str,
    ylabel: str,
    draw_arm: _Draw,
    scales: tuple[str, str],
) -> bytes:
    """One small plot for each setting, its arms in it."""
    settings = list(dict.fromkeys(arm.arm.setting for arm in summary.arms))
    columns = min(2, len(settings))
    rows = -(-len(settings) // columns)
    figure = _empty(0.5 + 1.75 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(settings) :]:
        axes.set_axis_off()
    handles: dict[str, Line2D] = {}
    for setting, axes in zip(settings, grid.flat, strict=False):
        axes.set(xscale=scales[0], yscale=scales[1])
        if scales[1] == "log":
            _label_few_ticks(axes)
        for arm in summary.arms:
            if arm.arm.setting == setting:
                index = summary.study.gc.index(arm.arm.gc)
                style = {"color": _COLOURS[index], "linestyle": _STYLES[index], "linewidth": 1.4}
                handles.setdefault(f"GC {arm.arm.gc}", draw_arm(axes, arm, style))
        axes.set_title(_setting_label(setting, summary), fontsize=10)
        axes.grid(alpha=0.3)
    figure.supxlabel(xlabel, fontsize=10)
    figure.supylabel(ylabel, fontsize=10)
    figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=3)
    return _png(figure)


def _label_few_ticks(axes: Axes) -> None:
    """1, 2 and 5 of each decade as plain numbers: Matplotlib's own overlap on small plots."""
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _curve_of(name: str) -> _Draw:
    def draw_arm(axes: Axes, arm: ArmResult, style: dict) -> Line2D:
        steps = arm.lines[0]["curve"]["step"]
        curves = np.array([line["curve"][name] for line in arm.lines], float)  # None is NaN
        middle, low, high = _bands(curves)
        axes.fill_between(steps, low, high, color=style["color"], alpha=0.25, linewidth=0)
        return axes.plot(steps, middle, **style)[0]

    return draw_arm


def _bands(curves: np.ndarray) -> list[np.ndarray]:
    """Geometric mean over the seeds at each point and its interval; (seeds, points) to (points,).

    Of logarithms, because the axis is logarithmic and the interval must not reach below 0.
    """
    logs = np.log(np.maximum(curves, np.finfo(np.float32).tiny))
    points = [statistics.mean(list(column)) for column in logs.T]
    middle = np.array([point.value for point in points])
    half = np.nan_to_num([point.half_width for point in points])
    return [np.exp(middle), np.exp(middle - half), np.exp(middle + half)]


def _sensitivity(axes: Axes, arm: ArmResult, style: dict) -> Line2D:
    rates = [each.rate for each in arm.rate.scores]
    scores = [100 * each.top1 for each in arm.rate.scores]
    chosen = [100 * each.top1 for each in arm.rate.scores if each.rate == arm.rate.value]
    ring = {"markersize": 9, "markerfacecolor": "none", "color": style["color"]}
    axes.plot([arm.rate.value] * len(chosen), chosen, "o", **ring)
    return axes.plot(rates, scores, marker="o", markersize=3, **style)[0]


def _label(arm: ArmResult, summary: Summary) -> str:
    name = _setting_label(arm.arm.setting, summary)
    return f"{name}, {arm.arm.gc}" if len(summary.study.gc) > 2 else name


def _setting_label(setting, summary: Summary) -> str:
    parts = [setting.label]
    if len(summary.study.weight_decays) > 1:
        parts.append(f"L2 {setting.weight_decay:g}")
    if len(summary.study.batch_sizes) > 1:
        parts.append(f"batch {setting.batch_size}")
    return ", ".join(parts)


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = _empty(height)
    return figure, figure.subplots()


def _empty(height: float) -> Figure:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, dpi=180, metadata={"Software": None})
    return stream.getvalue()
