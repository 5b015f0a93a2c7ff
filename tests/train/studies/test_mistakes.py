"""Command lines and configs with which no study can begin."""

import sys

import numpy as np
import pytest

from tests.support.studying import CONFIG, tiny
from tests.train.conftest import contents
from train.cli import run
from train.data.dataset import Dataset, Split
from train.errors import UserError
from train.studies import runner
from train.study import main

# An argument, and what the error says.
MISTAKES = {
    "--shard=0/2": "--shard='0/2' must be I/N with I from 1 to N, as 1/4",
    "--shard=3/2": "--shard='3/2' must be I/N",
    "--shard=x": "--shard='x' must be I/N",
    "--shard=1/2": "has 1 comparison(s) to share out; use at most 1 shards",
    "--distributed": "--shard I/N",
    "--config.optimizers=('adamm',)": "config.optimizers=('adamm',) is not allowed",
    "--config.optimizers=()": "one or more of sgd, momentum",
    "--config.gc=('none','none')": "config.gc=('none', 'none') is not allowed",
    "--config.gc=('half',)": "of none, all, conv, all@update, conv@update",
    "--config.seeds=()": "config.seeds=()",
    "--config.seeds=(-1,)": "config.seeds=(-1,)",
    "--config.seeds=(1000,)": "a rate is chosen with seeds that are not reported",
    "--config.learning_rates.momentum=(0.1,0.01)": "it must rise",
    "--config.learning_rates.momentum=(0,)": "rates above 0",
    "--config.tuning.validation_examples=0": "2 rates to choose from",
    "--config.tuning.validation_examples=5": "at least one of each class",
    "--config.tuning.validation_examples=1437": "config.tuning.validation_examples=1437",
    "--config.timing.pairs=0": "config.timing.pairs=0",
    "--config.target_loss=0": "config.target_loss=0.0",
    "--config.batch_sizes=(0,)": "config.data.batch_size=0",
    "--config.base.optimizer.eps=-1": "config.base.optimizer.eps=-1.0",
    "--config.base.data.image_size=224": "kept on the device",
    "--config.base.adversary.eval_steps=5": "a study scores images as they are; set it to 0",
    "--config.seed=1": "config.seed is not a field",
}


@pytest.mark.parametrize("argument", MISTAKES)
def test_a_mistake_is_one_line_and_writes_nothing(argument, tmp_path, monkeypatch, capfd):
    (tmp_path / "tiny.py").write_text(CONFIG)
    error = refused(tmp_path, monkeypatch, capfd, argument)
    assert MISTAKES[argument] in error


def test_a_trainers_config_is_no_study(tmp_path, monkeypatch, capfd):
    (tmp_path / "tiny.py").write_text(
        "from configs import digits\ndef get_config(): return digits.get_config()"
    )
    assert "it is not a study's" in refused(tmp_path, monkeypatch, capfd)


def test_a_class_of_one_example_cannot_be_cut(monkeypatch):
    labels = np.array([0] * 40 + [1] * 19 + [2], np.int32)
    split = Split(np.zeros((60, 8, 8, 1), np.uint8), labels)
    monkeypatch.setattr(runner.data, "load", lambda config: Dataset(split, split, 3))
    with pytest.raises(UserError, match=r"a class has 1 example\(s\) to train on; it must be 0"):
        runner.load(tiny(tuning={"seeds": (1000,), "validation_examples": 10}), [])


def test_a_folder_of_something_else_is_left_alone(tmp_path, monkeypatch, capfd):
    (tmp_path / "tiny.py").write_text(CONFIG)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("mine")
    error = refused(tmp_path, monkeypatch, capfd, "--workdir=work")
    assert "it is no study's folder" in error


def refused(tmp_path, monkeypatch, capfd, *arguments):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "8")
    before = contents(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.study", "--config", "tiny.py", *arguments])
    with pytest.raises(SystemExit) as exit_:
        run(main)
    out, error = capfd.readouterr()
    assert (exit_.value.code, out) == (2, "")
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert contents(tmp_path) == before
    return error
