"""Studies of several nets, and the largest learning rate at which one is stable."""

import importlib
import math

import pytest

from tests.support.studying import lines, tiny
from train import cli
from train.errors import UserError
from train.studies import design, tuning
from train.studies.config import validate_study
from train.studies.study import study
from train.study import USAGE


def test_variants_are_trained_each_by_its_own_config(tmp_path):
    config = tiny(gc=("none",), seeds=(0, 1))
    config.runs_at_once = 2
    config.base.num_steps = 4
    config.learning_rates.momentum = (0.03,)
    config.variants = {"plain": {"model": {"norm": "none"}}, "group": {"model": {"norm": "group"}}}
    summary = study(config, tmp_path / "study")
    assert [arm.arm.setting.named for arm in summary.arms] == ["group, momentum", "plain, momentum"]
    made = list(lines(tmp_path / "study").values())
    assert sorted(line["variant"] for line in made) == ["group", "group", "plain", "plain"]
    assert len({line["params_norm"] for line in made}) == 4
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
def test_a_variant_that_cannot_be(variants, message):
    config = tiny()
    config.variants = variants
    with pytest.raises(UserError) as error:
        validate_study(config)
    assert str(error.value).startswith(message)


def test_a_value_that_a_variant_cannot_have():
    config = tiny()
    config.variants = {"a": {"model": {"norm": "layer"}}}
    validate_study(config)
    (setting,) = design.settings(config)
    with pytest.raises(UserError, match=r"norm='layer' is not allowed; .*config\.variants\.a"):
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
def test_the_largest_rate_is_the_last_at_which_all_runs_learn(runs, largest):
    config = tiny()
    config.learning_rates.momentum = (*runs, 2.0)
    config.tuning.seeds = (1000, 1001)
    arm = design.arms(config, design.settings(config)[0])[0]
    of_run = {}
    for run in design.tuning_runs(config, arm):
        top1 = runs.get(run.learning_rate, [None, None])[run.seed - 1000]
        of_run[run.key] = {"top1": top1 or 0.1, "loss": top1}
    assert tuning.rate(config, arm, of_run).largest == pytest.approx(largest, nan_ok=True)


def test_the_study_of_norms_is_of_six_nets():
    file = importlib.import_module("configs.study_norms_digits").__file__
    config = cli.parse(["train.study", "--config", file], USAGE).config
    validate_study(config)
    settings = design.settings(config)
    configs = [design.trainer_config(config, design.arms(config, f)[0], 0, 0.1) for f in settings]
    assert len({(c.model.norm, c.model.weight_standardization) for c in configs}) == 6
