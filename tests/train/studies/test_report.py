"""Reports of results with diverged runs and unusual names."""

import itertools
import math

import matplotlib
import numpy as np
import pytest

from configs import study_digits_detection
from tests.support.studying import tiny
from train.studies import design, report
from train.studies.report import dynamics, plots
from train.studies.report.summary import summarize
from train.studies.results import is_diverged

pytestmark = pytest.mark.slow

SEEDS = tuple(range(12))
STEPS = [4, 8, 12]
LANDSCAPE = ("loss_variation", "gradient_change", "effective_smoothness")


def results(config, diverged=(), rates_that_diverge=()):
    """Return a line for each run of a study; `diverged` has pairs of GC and seed."""
    lines = {}
    for run in all_runs(config):
        failed = (run.arm.gc, run.seed) in diverged or (
            run.kind == "tune" and run.learning_rate in rates_that_diverge
        )
        lines[run.key] = _line(run, failed)
    return lines


def all_runs(config):
    """Return the tuning runs of a study, and its reported runs with every rate."""
    return [
        run
        for setting in design.settings(config)
        for arm in design.arms(config, setting)
        for runs in (
            design.tuning_runs(config, arm),
            *(design.final_runs(config, arm, rate) for rate in design.rates(config, setting)),
        )
        for run in runs
    ]


def _line(run, failed):
    rng = np.random.default_rng(run.seed)
    top1 = 0.9 + 0.05 * rng.random() + (0.01 + 0.01 * rng.random()) * (run.arm.gc != "none")
    curve = {
        "step": STEPS,
        "loss": [2.0, 1.6, 1.2],
        "grad_norm": [1.0, 0.5, 0.2],
        "gc_removed_fraction": [None] * 3 if run.arm.gc == "none" else [0.2, 0.3, 0.4],
    }
    line = {
        **{"seed": run.seed, "learning_rate": run.learning_rate, "kind": run.kind},
        **{"loss": 0.5, "top1": top1, "train_loss": 0.4, "train_top1": top1 + 0.02},
        **{"mean_drift": 1e-3, "params_norm": 10.0, "curve": curve},
        **{"together": "2 at once, 1 a device", "device": "cpu", "jax": "0.0"},
        "finished": "2026-01-01T00:00:00+00:00",
    }
    if failed:  # as stored: logits of NaN are never right
        line |= {"loss": None, "train_loss": None, "top1": 0.0, "train_top1": 0.0}
        line |= {"mean_drift": None, "params_norm": None}
        line["curve"] = curve | {"loss": [2.0, 1e30, None], "grad_norm": [1.0, 1e30, None]}
    return line


def study_config(**fields):
    config = tiny(seeds=SEEDS, **fields)
    config.learning_rates.momentum = (0.03, 0.1, 0.3)
    return config


def report_text(summary):
    return report.to_markdown(report.build(summary))


def test_diverged_runs_are_left_out():
    config = study_config()
    diverged = [("none", 3), ("none", 7)]
    summary = summarize(config, results(config, diverged))
    pruned = study_config()
    pruned.seeds = tuple(seed for seed in SEEDS if seed not in (3, 7))
    without_them = summarize(pruned, results(pruned))
    reference, other = summary.arms
    assert (reference.diverged, other.diverged) == ([3, 7], [])
    assert reference.score == without_them.arms[0].score
    assert reference.reached == 10
    assert other.score.n == 12
    row, expected = summary.comparisons[0], without_them.comparisons[0]
    assert row.difference == expected.difference
    assert row.holm_p == expected.holm_p
    assert min(row.reference_scores) > 90
    text = report_text(summary)
    assert "With momentum, 2 of 12 runs without GC diverged (seeds 3, 7); they are left" in text
    assert "| 2 of 12 (seeds 3, 7) |" in text
    assert "10 pairs" in text


def test_pairs_of_different_machines_are_named():
    config = study_config()
    lines = results(config)
    same = [line | {"processor": "A", "device": "cpu"} for line in lines.values()]
    text = report_text(summarize(config, dict(zip(lines, same, strict=True))))
    assert "Device: cpu (A), JAX 0.0." in text
    assert "one pair come from" not in text
    changed = (
        line | {"processor": "B"} if (run.seed, run.arm.gc) in {(3, "all"), (7, "none")} else line
        for run, line in zip(all_runs(config), same, strict=True)
    )
    text = report_text(summarize(config, dict(zip(lines, changed, strict=True))))
    assert "Device: cpu (A), JAX 0.0; cpu (B), JAX 0.0." in text
    assert "come from different processors or versions of JAX for seeds 3, 7." in text


@pytest.mark.parametrize("gc", ["none", "all"])
def test_all_runs_of_an_arm_diverged(gc):
    config = study_config()
    summary = summarize(config, results(config, [(gc, seed) for seed in SEEDS]))
    (row,) = summary.comparisons
    assert row.difference.mean.n == 0
    assert math.isnan(row.holm_p)
    text = report_text(summary)
    label = "without GC" if gc == "none" else "with GC"
    assert f"all runs {label} diverged; no comparison is possible." in text
    assert "significant" not in text
    assert "nan" not in text


def test_all_runs_of_both_arms_diverged():
    config = study_config()
    summary = summarize(config, results(config, [(gc, s) for gc in config.gc for s in SEEDS]))
    built = report.build(summary)
    assert built.conclusions[:2] == [
        "With momentum, all runs without GC diverged; no comparison is possible.",
        "With momentum, all runs with GC diverged; no comparison is possible.",
    ]
    assert "nan" not in report.to_markdown(built)
    assert [plot.name for plot in built.plots] == ["learning_rates"]


def test_one_pair_is_left():
    config = study_config()
    diverged = [("none", seed) for seed in SEEDS[:6]] + [("all", seed) for seed in SEEDS[6:11]]
    text = report_text(summarize(config, results(config, diverged)))
    assert "one pair is not enough for a conclusion" in text
    assert "6 of 12 runs without GC diverged" in text
    assert "5 of 12 runs with GC diverged" in text


def test_no_pair_is_left():
    config = study_config()
    diverged = [("none", seed) for seed in SEEDS[:6]] + [("all", seed) for seed in SEEDS[6:]]
    text = report_text(summarize(config, results(config, diverged)))
    assert "no seed has a finite run in both arms; no comparison is possible." in text


@pytest.mark.parametrize("field", ["loss", "train_loss", "top1", "train_top1"])
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_nonfinite_field_is_diverged(field, value):
    line = {"loss": 1.0, "train_loss": 1.0, "top1": 0.0, "train_top1": 0.0}
    assert not is_diverged(line)
    assert is_diverged(line | {field: value})


def test_diverged_variant_is_left_out():
    config = study_config(gc=("none",))
    config.variants = {"a": {"model": {"norm": "none"}}, "b": {"model": {"norm": "group"}}}
    config.baseline = "a"
    lines = results(config)
    variant = design.settings(config)[1]
    (arm,) = design.arms(config, variant)
    key = design.final_runs(config, arm, 0.03)[0].key
    lines[key] |= {"loss": None, "top1": 0.0}
    summary = summarize(config, lines)
    assert summary.variants[0].difference.mean.n == 11
    assert "1 of 12 runs without GC diverged (seed 0); it is left out" in report_text(summary)


def test_diverged_runs_do_not_stretch_plots():
    config = study_config()
    lines = results(config, [("none", 3), ("none", 7)], rates_that_diverge=(0.3,))
    figures = plots.make_figures(summarize(config, lines)).values()
    difference, loss, norm, scores = (figure.axes[0] for _, figure in figures)
    assert difference.get_xlim()[1] < 3
    assert loss.get_ylim()[1] < 10
    assert norm.get_ylim()[1] < 10
    assert scores.get_ylim()[0] > 80


@pytest.mark.parametrize("name", ["$$", "$x$", r"\$", r"a\b", "a_b^2", "100%", "$\\frac"])
def test_variant_name_is_drawn_verbatim(name):
    config = study_config()
    config.variants = {name: {"model": {"norm": "none"}}, "a $ b": {}}
    summary = summarize(config, results(config))
    assert len(report.build(summary).plots) == 4
    titles = [axes.get_title() for axes in plots.make_figures(summary)["loss"][1].axes]
    assert f"{name}, momentum" in titles


@pytest.mark.parametrize(
    "rates", [(0.03, 0.1, 0.3), tuple(round(0.0001 * 10 ** (i / 4), 6) for i in range(20))]
)
def test_rate_labels_do_not_overlap(rates):
    config = study_config()
    config.learning_rates.momentum = rates
    config.variants = {"a": {}, "b": {"model": {"norm": "none"}}}
    _, figure = plots.make_figures(summarize(config, results(config)))["learning_rates"]
    for axes in figure.axes:
        assert list(axes.get_xticks()) == list(rates)
        labels = [label for label in axes.get_xticklabels() if label.get_visible()]
        assert [label.get_text() for label in labels][:1] == [f"{rates[0]:g}"]
        assert len(labels) >= 3
        boxes = [label.get_window_extent() for label in labels]
        assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))


def test_lines_differ_by_style():
    config = study_config(gc=("none", "all", "conv", "all@update"))
    figures = plots.make_figures(summarize(config, results(config)))
    lines = figures["loss"][1].axes[0].get_lines()
    assert len({line.get_color() for line in lines}) == 4
    assert len({line.get_linestyle() for line in lines}) == 4


def test_plots_ignore_user_settings():
    config = study_config()
    summary = summarize(config, results(config))
    expected = plots.draw(summary)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "text.usetex": True}):
        assert plots.draw(summary) == expected


def test_report_names_machine_of_runs(monkeypatch):
    config = study_config()
    monkeypatch.setattr("os.cpu_count", lambda: 12345)
    text = report_text(summarize(config, results(config)))
    assert "Device: cpu, JAX 0.0." in text
    assert "12345" not in text
    assert "cores" not in text


def test_ratios_of_planted_curves():
    def plant(line, factor):
        line["curve"] |= {name: [factor, 4 * factor] for name in LANDSCAPE}

    config = study_config()
    summary = summarize(config, results(config))
    for arm in summary.arms:
        for seed, line in enumerate(arm.lines):
            plant(line, (1 + seed) * (0.5 if arm.arm.gc == "all" else 1.0))
    rows = {
        row.measure: row for row in dynamics.compare(summary.comparisons[0], config.target_loss)
    }
    for name in ("loss variation along the update", "effective smoothness"):
        np.testing.assert_allclose(np.exp(rows[name].log_ratio.mean.value), 0.5)
        assert rows[name].other == pytest.approx(rows[name].reference / 2)
    assert rows["gradient norm"].log_ratio.mean.value == 0
    assert "update norm" not in rows


def test_reference_other_than_no_gc():
    config = study_config(gc=("all", "conv"))
    text = report_text(summarize(config, results(config)))
    assert "top-1 with GC all" in text
    assert "between GC conv and all" in text
    assert "without GC" not in text


def test_scores_of_detectors_are_compared():
    """AP of large objects is undefined everywhere, and mask AP50 in one run."""
    config = study_digits_detection.get_config()
    lines = results(config)
    for line in lines.values():
        names = [f"{kind}_{name}" for kind in ("box", "mask") for name in ("ap", "ap50", "recall")]
        line |= dict.fromkeys(names, line["top1"]) | {"box_ap_large": None, "test_loss": 1.0}
    first = next(line for line in lines.values() if line["kind"] == "final")
    first["mask_ap50"] = None
    summary = summarize(config, lines)
    assert summary.comparisons[0].difference.mean.n == 8
    (mask_ap50,) = summary.scores["mask_ap50"]
    assert mask_ap50.difference.mean.n == 7
    assert summary.scores["box_recall"][0].difference == summary.comparisons[0].difference
    text = report_text(summary)
    assert "| box AP50    | adam" in text
    assert "AP large" not in text
    assert "nan" not in text
