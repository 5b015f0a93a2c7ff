"""Studies of several networks, and the largest stable learning rate."""

import importlib
import json
import math

import pytest

from tests.support.studying import lines, tiny
from train import cli
from train.errors import UserError
from train.studies import design, tuning
from train.studies.config import validate_study
from train.studies.study import study


@pytest.mark.slow
def test_variants_have_their_own_configs(tmp_path):
    config = tiny(gc=("none",), seeds=(0, 1))
    config.base.num_steps = 4
    config.learning_rates.momentum = (0.03,)
    config.variants = {"plain": {"model": {"norm": "none"}}, "group": {"model": {"norm": "group"}}}
    summary = study(config, tmp_path / "study")
    assert [arm.arm.setting.label for arm in summary.arms] == ["group, momentum", "plain, momentum"]
    all_lines = list(lines(tmp_path / "study").values())
    assert sorted(line["variant"] for line in all_lines) == ["group", "group", "plain", "plain"]
    assert len({line["params_norm"] for line in all_lines}) == 4
    for arm in summary.arms:
        run = design.final_runs(summary.study, arm.arm, 0.03)[0]
        assert run.config.model.norm == {"plain": "none"}.get(arm.arm.setting.variant, "group")
    report = (tmp_path / "study" / "report.md").read_text()
    assert "| variant" in report
    assert "| group " in report


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"a": 3}, "config.variants.a=3 must be a dict of fields"),
        ({"a": {"model": {"nrm": "x"}}}, "config.variants.a.model.nrm is not a field; did you"),
        ({"a": {"model": {"norm": 3}}}, "config.variants.a.model.norm=3 is not allowed; it must"),
        ({"a": {"data": {"pad": 3}}}, "config.variants.a.data.pad cannot vary"),
        ({"a": {"gc": {"mode": "all"}}}, "config.variants.a.gc.mode cannot vary"),
    ],
)
def test_bad_variant_is_rejected(variants, message):
    config = tiny()
    config.variants = variants
    with pytest.raises(UserError) as error:
        validate_study(config)
    assert str(error.value).startswith(message)


def test_bad_value_of_variant_is_rejected():
    config = tiny()
    config.variants = {"a": {"model": {"norm": "layer"}}}
    with pytest.raises(
        UserError, match=r"^config\.variants\.a\.model\.norm='layer' is not allowed"
    ):
        validate_study(config)


def test_contradicting_fields_of_variant_are_rejected():
    config = tiny()
    config.variants = {"a": {"init_head": True}}
    (setting,) = design.settings(config)
    with pytest.raises(UserError, match=r"init_head=True needs .*\(config\.variants\.a\)"):
        design.trainer_config(config, design.arms(config, setting)[0], 0, 0.1)


@pytest.mark.parametrize(
    ("runs", "largest"),
    [
        ({0.01: [0.8, 0.8], 0.1: [0.9, 0.9], 1.0: [0.9, 0.5]}, 1.0),
        ({0.01: [0.8, 0.8], 0.1: [0.9, 0.9], 1.0: [0.9, 0.1]}, 0.1),  # one did not learn
        ({0.01: [0.8, 0.8], 0.1: [0.9, None], 1.0: [0.1, 0.1]}, 0.01),  # one was not finite
        ({0.01: [None, None]}, math.nan),
    ],
)
def test_largest_stable_rate(runs, largest):
    config = tiny()
    config.learning_rates.momentum = (*runs, 2.0)
    config.tuning.seeds = (1000, 1001)
    arm = design.arms(config, design.settings(config)[0])[0]
    of_run = {}
    for run in design.tuning_runs(config, arm):
        top1 = runs.get(run.learning_rate, [None, None])[run.seed - 1000]
        of_run[run.key] = {"top1": top1 or 0.1, "loss": top1}
    assert tuning.rate(config, arm, of_run).largest == pytest.approx(largest, nan_ok=True)


def test_norm_study_has_six_networks():
    file = importlib.import_module("configs.study_norms_digits").__file__
    config = cli.parse(["train.study", "--config", file], str).config
    validate_study(config)
    settings = design.settings(config)
    configs = [design.trainer_config(config, design.arms(config, f)[0], 0, 0.1) for f in settings]
    assert len({(c.model.norm, c.model.weight_standardization) for c in configs}) == 6


@pytest.mark.parametrize(
    ("runs", "value"),
    [
        ({0.1: [0.5, 0.5], 1.0: [0.9, None]}, 0.1),  # a higher mean of the runs that are left
        ({0.1: [0.5, None], 1.0: [None, None]}, 0.1),
        ({0.1: [None, None], 1.0: [0.2, 0.2]}, 1.0),
        ({0.1: [0.4, None], 1.0: [0.6, None]}, 1.0),  # runs diverged at every rate
    ],
)
def test_diverged_tuning_runs_are_not_zero(runs, value):
    config = tiny()
    config.learning_rates.momentum = tuple(runs)
    config.tuning.seeds = (1000, 1001)
    arm = design.arms(config, design.settings(config)[0])[0]
    results = {}
    for run in design.tuning_runs(config, arm):
        top1 = runs[run.learning_rate][run.seed - 1000]
        results[run.key] = {"top1": top1 or 0.0, "loss": top1 and 1.0}
    rate = tuning.rate(config, arm, results)
    assert rate.value == value
    for score in rate.scores:
        finite = [top1 for top1 in runs[score.rate] if top1 is not None]
        assert score.diverged == 2 - len(finite)
        assert not finite or score.score == pytest.approx(sum(finite) / len(finite))


@pytest.mark.slow
def test_study_under_attack(tmp_path):
    config = tiny(seeds=(0, 1))
    config.base.adversary.update(eval_steps=2, epsilon=0.3, step_size=0.2)
    summary = study(config, tmp_path)
    for arm in summary.arms:
        for line in arm.lines:
            assert line["robust_top1"] < line["top1"]
            assert line["robust_loss"] > line["loss"]
    (row,) = summary.robust
    pairs = [100 * line["robust_top1"] for line in row.other.lines]
    assert row.other_scores == pairs
    text = (tmp_path / "report.md").read_text()
    assert "## Under attack" in text
    assert "2 steps of 0.2, within 0.3 of each pixel" in text
    tuned = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert not any("robust_top1" in line for line in tuned if line["kind"] == "tune")
