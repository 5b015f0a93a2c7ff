"""A study from its config to its report, and what its arms share."""

import copy
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

pytestmark = pytest.mark.usefixtures("programs_are_kept")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return folder, study(one_at_a_time(tiny()), folder)


def one_at_a_time(config):
    config.runs_at_once = 2
    return config


def test_a_run_of_a_study_is_the_run_of_the_trainer(done, tmp_path):
    """Same weights, order, augmentation and rate: to rounding, for the rate is now an input."""
    _, summary = done
    arm = summary.arms[1]
    config = design.trainer_config(summary.study, arm.arm, 1, arm.rate.value)
    of_trainer = train(config, tmp_path / "run")
    of_study = arm.lines[1]
    assert of_study["seed"] == 1
    assert of_study["top1"] == pytest.approx(of_trainer["test_top1"], abs=1 / 360)
    assert of_study["loss"] == pytest.approx(of_trainer["test_loss"], rel=1e-3)
    assert of_study["steps"] == of_trainer["steps"]
    removed = of_study["curve"]["gc_removed_fraction"]
    mean_removed = sum(removed) / len(removed)
    assert mean_removed == pytest.approx(of_trainer["gc_removed_fraction"], rel=1e-3)


def test_every_run_is_there_once(done):
    folder, summary = done
    by_kind = {}
    for line in lines(folder).values():
        by_kind.setdefault(line["kind"], []).append(line)
    assert {kind: len(some) for kind, some in by_kind.items()} == {"tune": 4, "final": 6, "time": 1}
    assert design.count(summary.study, design.settings(summary.study)) == 10
    for line in by_kind["final"]:
        assert len(line["curve"]["step"]) == 3
        assert 0 <= line["top1"] <= 1


def test_gc_keeps_the_constraint_and_nothing_else_does(done):
    _, summary = done
    without, with_gc = summary.arms
    assert with_gc.drift.value < 1e-6 < without.drift.value
    assert math.isnan(without.removed)
    assert 0.01 < with_gc.removed < 0.9


def test_a_finished_study_makes_no_run_again(done, tmp_path, monkeypatch):
    folder, summary = done
    before = (folder / "results.jsonl").read_bytes()
    monkeypatch.setattr("train.studies.runner.ParallelRuns", None)  # would fail if it were called
    again = study(one_at_a_time(tiny()), folder)
    assert (folder / "results.jsonl").read_bytes() == before
    assert again.comparisons[0].difference == summary.comparisons[0].difference


def test_more_seeds_are_added_to_those_that_are_there(done, tmp_path):
    folder, _ = done
    copied = tmp_path / "copy"
    copied.mkdir()
    (copied / "results.jsonl").write_bytes((folder / "results.jsonl").read_bytes())
    before = lines(copied)
    more = study(one_at_a_time(tiny(seeds=(0, 1, 2, 3))), copied)
    after = lines(copied)
    assert len(after) == len(before) + 2
    assert all(after[key] == line for key, line in before.items())
    assert more.comparisons[0].difference.mean.n == 4


def test_the_report(done):
    folder, summary = done
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
    assert text.rstrip().endswith("times as long as a step without GC.")
    assert page.count("<img") == 4


def test_the_page_needs_nothing_else(done):
    folder, _ = done
    page = (folder / "report.html").read_text()
    links, tags = [], set()

    class Links(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.add(tag)
            links.extend(value for name, value in attrs if name in ("src", "href", "srcset"))

    Links().feed(page)
    assert len(links) == 4
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert not tags & {"script", "link", "iframe", "object"}
    assert "url(" not in page
    assert "@import" not in page


def test_shards_make_the_same_results_and_one_report(tmp_path):
    config = tiny(optimizers=("momentum", "sgd"), gc=("none", "all"), seeds=(0, 1))
    config.learning_rates.momentum = (0.03,)
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    study(copy.deepcopy(config), whole)
    study(copy.deepcopy(config), shared, (2, 2))
    assert not (shared / "report.md").exists()
    study(copy.deepcopy(config), shared, (1, 2))
    assert (shared / "report.md").exists()
    study(copy.deepcopy(config), shared)
    assert lines(shared) == lines(whole)


def test_two_times_the_same_arm_differ_by_nothing(tmp_path, monkeypatch):
    """An A/A study: what is called GC does nothing, and pairs are identical."""
    monkeypatch.setattr(optimizers, "_centralize", lambda *_: optax.identity())
    summary = study(one_at_a_time(tiny(**{"seeds": (0, 1)})), tmp_path / "study")
    difference = summary.comparisons[0].difference
    assert difference == ((0.0, 0.0, 2), 1.0)
    assert "no significant difference was found (0.00 ± 0.00 points" in read_report(tmp_path)


def test_other_seeds_of_the_same_arm_make_no_significant_difference(tmp_path):
    """An A/A study: both arms without GC, and pairs differ by noise."""
    config = one_at_a_time(tiny(gc=("none",), seeds=tuple(range(12))))
    config.base.num_steps = 40
    config.learning_rates.momentum = (0.03,)
    (arm,) = study(config, tmp_path / "study").arms
    top1 = [100 * line["top1"] for line in arm.lines]
    difference = statistics.paired_difference(top1[:6], top1[6:])
    assert len(set(top1)) > 3  # there is noise
    assert difference.p > 0.05


def test_a_planted_effect_is_found(tmp_path, monkeypatch):
    """With GC the gradients are scaled to a tenth, so that SGD learns more slowly."""
    build = optimizers.build

    def build_worse(config, rate, axes):
        factor = 0.1 if config.gc.mode == "all" else 1.0
        return optax.chain(optax.scale(factor), build(config, rate, axes))

    monkeypatch.setattr(optimizers, "build", build_worse)
    config = one_at_a_time(tiny(optimizers=("sgd",), seeds=(0, 1, 2, 3)))
    config.base.num_steps = 40
    config.learning_rates.sgd = (0.1,)
    (row,) = study(config, tmp_path / "study").comparisons
    assert row.difference.mean.value < -10
    assert row.holm_p < 0.05
    assert "gradient centralization lowered test top-1" in read_report(tmp_path)


def test_a_rate_at_which_training_diverges_is_not_chosen(tmp_path):
    config = one_at_a_time(tiny(gc=("none",), seeds=(0,)))
    config.learning_rates.momentum = (0.01, 1e30)
    (arm,) = study(config, tmp_path / "study").arms
    assert arm.rate.value == arm.rate.largest == 0.01
    assert arm.rate.scores[1].loss == math.inf
    assert json.loads((tmp_path / "study" / "config.json").read_text())["seeds"] == [0]


def test_under_vmap_runs_come_to_the_same_up_to_rounding(tmp_path, done):
    _, summary = done
    config = one_at_a_time(tiny(runs_per_device=2, gc=("none",)))
    config.learning_rates.momentum = (summary.arms[0].rate.value,)
    (vmapped,) = study(config, tmp_path / "study").arms
    for line, its in zip(summary.arms[0].lines, vmapped.lines, strict=True):
        assert line["curve"]["loss"] == pytest.approx(its["curve"]["loss"], rel=1e-2)
    assert "2 a device" in read_report(tmp_path)


def test_tensorboard_reads_the_curves(tmp_path):
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
    """The records of TensorBoard's files: a length, its checksum, so many bytes, their checksum."""
    for file in folder.iterdir():
        content = file.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            yield content[12 : 12 + length]
            content = content[16 + length :]


def read_report(tmp_path):
    return (tmp_path / "study" / "report.md").read_text()
