"""A study from its config to its report."""

import html.parser
import json
import math

import optax
import pytest

from tests.support.studying import lines, tiny
from train.engine import optimizers
from train.loop import train
from train.studies import design
from train.studies.report import statistics
from train.studies.study import study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished_study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return folder, study(tiny(), folder)


def test_study_run_equals_trainer_run(finished_study, tmp_path):
    """Equal to rounding, because the rate is an input of the study's program."""
    _, summary = finished_study
    arm = summary.arms[1]
    config = design.trainer_config(summary.study, arm.arm, 1, arm.rate.value)
    trainer_summary = train(config, tmp_path / "run")
    study_line = arm.lines[1]
    assert study_line["seed"] == 1
    assert study_line["top1"] == pytest.approx(trainer_summary["test_top1"], abs=1 / 360)
    assert study_line["loss"] == pytest.approx(trainer_summary["test_loss"], rel=1e-3)
    assert study_line["steps"] == trainer_summary["steps"]
    removed = study_line["curve"]["gc_removed_fraction"]
    mean_removed = sum(removed) / len(removed)
    assert mean_removed == pytest.approx(trainer_summary["gc_removed_fraction"], rel=1e-3)


def test_every_run_is_made_once(finished_study):
    folder, summary = finished_study
    by_kind = {}
    for line in lines(folder).values():
        by_kind.setdefault(line["kind"], []).append(line)
    assert {kind: len(some) for kind, some in by_kind.items()} == {"tune": 4, "final": 6, "time": 1}
    assert design.count_runs(summary.study) == 10
    for line in by_kind["final"]:
        assert len(line["curve"]["step"]) == 3
        assert 0 <= line["top1"] <= 1


def test_only_gc_keeps_the_constraint(finished_study):
    _, summary = finished_study
    without, with_gc = summary.arms
    assert with_gc.drift.value < 1e-6 < without.drift.value
    assert math.isnan(without.removed)
    assert 0.01 < with_gc.removed < 0.9


def test_finished_study_makes_no_run(finished_study, tmp_path, monkeypatch):
    folder, summary = finished_study
    before = (folder / "results.jsonl").read_bytes()
    monkeypatch.setattr(
        "train.studies.engines.local.ParallelRuns", None
    )  # would fail if it were called
    again = study(tiny(), folder)
    assert (folder / "results.jsonl").read_bytes() == before
    assert again.comparisons[0].difference == summary.comparisons[0].difference


def test_more_seeds_keep_existing_runs(finished_study, tmp_path):
    folder, _ = finished_study
    copied = tmp_path / "copy"
    copied.mkdir()
    (copied / "results.jsonl").write_bytes((folder / "results.jsonl").read_bytes())
    before = lines(copied)
    more = study(tiny(seeds=(0, 1, 2, 3)), copied)
    after = lines(copied)
    assert len(after) == len(before) + 2
    assert all(after[key] == line for key, line in before.items())
    assert more.comparisons[0].difference.mean.n == 4


def test_report_has_all_columns(finished_study):
    folder, summary = finished_study
    text = (folder / "report.md").read_text()
    page = (folder / "report.html").read_text()
    difference = summary.comparisons[0].difference.mean
    assert f"± {difference.half_width:.2f}" in text
    columns = ("top-1 without GC", "p (Holm)", "largest stable rate", "steps to loss 1.5", "gap")
    for part in (*columns, "removed", "drift", "ms per step", "≥ 0.03", "Conclusions"):
        assert part in text
        assert part in page
    assert summary.arms[0].rate.at_edge  # there are but two rates
    assert all(0 < arm.step_seconds < 10 for arm in summary.arms)
    assert "is at the edge of the grid for" in text
    assert "times as long as a step without GC." in text
    for plot in ("differences", "loss", "grad_norm", "learning_rates"):
        assert f"(plots/{plot}.svg)" in text
        assert (folder / "plots" / f"{plot}.svg").read_text().startswith("<?xml")
    assert page.count("<img") == 4


def test_html_page_is_self_contained(finished_study):
    folder, _ = finished_study
    page = (folder / "report.html").read_text()
    links, tags = [], set()

    class Links(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.add(tag)
            links.extend(value for name, value in attrs if name in ("src", "href", "srcset"))

    Links().feed(page)
    assert len(links) == 4
    assert all(link.startswith("data:image/svg+xml;base64,") for link in links)
    assert not tags & {"script", "link", "iframe", "object"}
    assert "url(" not in page
    assert "@import" not in page


def test_identical_arms_do_not_differ(tmp_path, monkeypatch):
    """An A/A study: no run has GC, so pairs are identical."""
    build = optimizers.build

    def build_without_gc(config, *arguments):
        config = config.copy_and_resolve_references()
        config.gc.mode = "none"
        return build(config, *arguments)

    monkeypatch.setattr(optimizers, "build", build_without_gc)
    summary = study(tiny(**{"seeds": (0, 1)}), tmp_path / "study")
    difference = summary.comparisons[0].difference
    assert difference == ((0.0, 0.0, 2), 1.0)
    assert "no significant difference was found (0.00 ± 0.00 points" in read_report(tmp_path)


def test_seed_noise_is_not_significant(tmp_path):
    """An A/A study: both arms are without GC, and pairs differ by noise."""
    config = tiny(gc=("none",), seeds=tuple(range(12)))
    config.base.num_steps = 40
    config.learning_rates.momentum = (0.03,)
    (arm,) = study(config, tmp_path / "study").arms
    top1 = [100 * line["top1"] for line in arm.lines]
    difference = statistics.paired_difference(top1[:6], top1[6:])
    assert len(set(top1)) > 3  # there is noise
    assert difference.p > 0.05


def test_planted_effect_is_found(tmp_path, monkeypatch):
    """With GC the gradients are scaled by 0.1, so that SGD learns more slowly."""
    build = optimizers.build

    def build_worse(config, *arguments):
        factor = 0.1 if config.gc.mode == "all" else 1.0
        optimizer = build(config, *arguments)
        return optimizer._replace(
            update=lambda grads, *state: optimizer.update(optax.tree.scale(factor, grads), *state)
        )

    monkeypatch.setattr(optimizers, "build", build_worse)
    config = tiny(optimizers=("sgd",), seeds=(0, 1, 2, 3))
    config.base.num_steps = 40
    config.learning_rates.sgd = (0.1,)
    (row,) = study(config, tmp_path / "study").comparisons
    assert row.difference.mean.value < -10
    assert row.holm_p < 0.05
    assert "gradient centralization lowered test top-1" in read_report(tmp_path)


def test_diverging_rate_is_not_chosen(tmp_path):
    config = tiny(gc=("none",), seeds=(0,))
    config.learning_rates.momentum = (0.01, 1e30)
    (arm,) = study(config, tmp_path / "study").arms
    assert arm.rate.value == arm.rate.largest == 0.01
    assert arm.rate.scores[1].loss == math.inf
    assert json.loads((tmp_path / "study" / "config.json").read_text())["seeds"] == [0]


def test_vmapped_runs_give_the_same_results(tmp_path, finished_study):
    _, summary = finished_study
    config = tiny(runs_per_device=2, gc=("none",))
    config.learning_rates.momentum = (summary.arms[0].rate.value,)
    (vmapped,) = study(config, tmp_path / "study").arms
    for line, vmapped_line in zip(summary.arms[0].lines, vmapped.lines, strict=True):
        assert line["curve"]["loss"] == pytest.approx(vmapped_line["curve"]["loss"], rel=1e-2)
    assert "2 a device" in read_report(tmp_path)


def test_tensorboard_has_the_curves(tmp_path):
    pytest.importorskip("tensorboardX", reason="is in the extra 'tensorboard'")
    from tensorboardX.proto.event_pb2 import Event

    config = digits_steps(8)
    config.report.tensorboard = True
    train(config, tmp_path / "run")
    events = [Event.FromString(record) for record in records(tmp_path / "run" / "tensorboard")]
    scalars = {(e.step, v.tag): v.simple_value for e in events for v in e.summary.value}
    metrics = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    first = json.loads(metrics[0])
    assert scalars[4, "train/loss"] == pytest.approx(first["loss"])
    assert (8, "test/top1") in scalars


def digits_steps(count):
    config = tiny().base
    config.num_steps = count
    return config


def records(folder):
    """Yield the records of TensorBoard files: length, checksum, content, checksum."""
    for file in folder.iterdir():
        content = file.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            yield content[12 : 12 + length]
            content = content[16 + length :]


def read_report(tmp_path):
    return (tmp_path / "study" / "report.md").read_text()
