"""Variants compared with a baseline: pretrained and frozen bodies."""

import importlib

import jax
import numpy as np
import pytest

from tests.support.processes import run
from tests.support.studying import lines, tiny
from tests.train.checkpoints.test_pretrained import FLAGS
from train.checkpoints import manager, pretrained
from train.errors import UserError
from train.studies import design
from train.studies.config import validate_study
from train.studies.study import study


def transfer_study(source):
    config = tiny(gc=("all",), seeds=(0, 1))
    config.base.num_steps = 2
    config.learning_rates.momentum = (0.03,)
    frozen = {"init_from": str(source), "optimizer": {"body_lr_scale": 0.0}}
    config.variants = {"scratch": {"init_from": ""}, "frozen": frozen}
    config.baseline = "scratch"
    return config


def load_body(source):
    (folder,) = (source / "checkpoints").iterdir()
    params = manager.load_weights(folder)["params"]
    return {name: layer for name, layer in params.items() if name != "head"}


@pytest.mark.slow
def test_frozen_body_is_compared_with_scratch(tmp_path, monkeypatch):
    run(tmp_path / "source", *FLAGS, "--config.num_steps=2")
    summary = study(transfer_study(tmp_path / "source"), tmp_path / "study")
    assert [
        (row.other.arm.setting.variant, row.reference.arm.setting.variant, row.other.arm.gc)
        for row in summary.variants
    ] == [("frozen", "scratch", "all")]
    (row,) = summary.variants
    assert row.difference.mean.value == pytest.approx(
        row.other.score.value - row.reference.score.value
    )
    frozen, scratch = (
        [line for line in lines(tmp_path / "study").values() if line["variant"] == variant]
        for variant in ("frozen", "scratch")
    )
    assert len(frozen) == len(scratch) == 2
    body_norm = np.sqrt(
        sum(np.sum(leaf**2) for leaf in jax.tree.leaves(load_body(tmp_path / "source")))
    )
    for line in frozen:
        assert line["mean_drift"] < 1e-5
        assert line["params_norm"] > body_norm, "the body of the source, and a head"
    assert all("init_sha256" in line for line in frozen)
    more = transfer_study(tmp_path / "source")
    more.seeds = (0, 1, 2)
    load = pretrained.load
    monkeypatch.setattr(
        pretrained, "load", lambda *of: load(*of)._replace(sha256="of other weights")
    )
    with pytest.raises(UserError, match="has changed since the runs in the work folder were made"):
        study(more, tmp_path / "study")
    report = (tmp_path / "study" / "report.md").read_text()
    assert "Variants compared with scratch" in report
    assert "frozen instead of scratch" in report or "between frozen and scratch" in report


def test_missing_source_is_rejected(tmp_path):
    with pytest.raises(
        UserError, match=r"run python -m train --config configs/digits_pretrain\.py"
    ):
        study(transfer_study(tmp_path / "digits_pretrain"), tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_baseline_must_be_a_variant():
    config = transfer_study("source")
    config.baseline = "scrach"
    with pytest.raises(UserError, match=r"config\.baseline='scrach' is not a variant; .* scratch"):
        validate_study(config)


def test_transfer_study_has_four_bodies():
    config = importlib.import_module("configs.study_digits_transfer").get_config()
    validate_study(config)
    settings = design.settings(config)
    configs = [design.trainer_config(config, design.arms(config, f)[0], 0, 0.1) for f in settings]
    found = {
        f.variant: (c.init_from, c.optimizer.body_lr_scale)
        for f, c in zip(settings, configs, strict=True)
    }
    source = "runs/digits_pretrain"
    assert found == {
        "scratch": ("", 1.0),
        "frozen": (source, 0.0),
        "slow": (source, 0.1),
        "whole": (source, 1.0),
    }
