"""Command lines and configs of studies that are rejected in one line."""

import sys

import numpy as np
import pytest

from tests.support.processes import names_only_phases
from tests.support.studying import CONFIG, tiny
from tests.train.conftest import read_tree
from train.cli import run
from train.data.dataset import Dataset, Split
from train.errors import UserError
from train.studies import datasets
from train.study import main

# An argument, and a part of the error.
MISTAKES = {
    "--shard=0/2": "--shard='0/2' must be I/N with I from 1 to N, such as 1/4",
    "--shard=3/2": "--shard='3/2' must be I/N",
    "--shard=x": "--shard='x' must be I/N",
    "--engine=dask": "--engine='dask' must be one of local, ray, slurm",
    "--distributed": "--shard I/N",
    "--config.optimizers=('adamm',)": "config.optimizers=('adamm',) is not allowed",
    "--config.optimizers=()": "one or more of sgd, momentum",
    "--config.gc=('none','none')": "config.gc=('none', 'none') is not allowed",
    "--config.gc=('half',)": (
        "one or more of none, all, conv, all@update, conv@update, whole_tensor, "
        "first_axis_out, each once"
    ),
    "--config.seeds=()": "config.seeds=()",
    "--config.seeds=(-1,)": "config.seeds=(-1,)",
    "--config.seeds=(1000,)": "both contain 1000; choose rates with seeds that are not reported",
    "--config.learning_rates.momentum=(0.1,0.01)": "it must be increasing numbers above 0",
    "--config.learning_rates.momentum=(0,)": "it must be increasing numbers above 0",
    "--config.tuning.validation_examples=0": "2 rates to choose from",
    "--config.tuning.validation_examples=5": "both parts need at least one of each class",
    "--config.tuning.validation_examples=1437": "config.tuning.validation_examples=1437",
    "--config.timing.pairs=0": "config.timing.pairs=0",
    "--config.target_loss=0": "config.target_loss=0.0",
    "--config.batch_sizes=(0,)": "it must be integers of at least 1, each once",
    "--config.base.optimizer.eps=-1": "config.base.optimizer.eps=-1.0",
    "--config.base.data.image_size=224": "images on the device",
    "--config.seed=1": "config.seed is not a field",
}


@pytest.mark.parametrize("argument", MISTAKES)
def test_mistake_is_one_line(argument, tmp_path, monkeypatch, capfd):
    (tmp_path / "tiny.py").write_text(CONFIG)
    error = refused(tmp_path, monkeypatch, capfd, argument)
    assert MISTAKES[argument] in error


def test_training_config_is_rejected(tmp_path, monkeypatch, capfd):
    (tmp_path / "tiny.py").write_text(
        "from configs import digits\ndef get_config(): return digits.get_config()"
    )
    assert "it is not a study's" in refused(tmp_path, monkeypatch, capfd)


def test_class_of_one_cannot_be_split(monkeypatch):
    labels = np.array([0] * 40 + [1] * 19 + [2], np.int32)
    split = Split(np.zeros((60, 8, 8, 1), np.uint8), labels)
    monkeypatch.setattr(datasets.data, "load", lambda config: Dataset(split, split, 3))
    with pytest.raises(UserError, match=r"a class has 1 training example\(s\); set it to 0"):
        datasets.load_datasets(tiny(tuning={"seeds": (1000,), "validation_examples": 10}), [])


def test_foreign_folder_is_left_alone(tmp_path, monkeypatch, capfd):
    (tmp_path / "tiny.py").write_text(CONFIG)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("mine")
    error = refused(tmp_path, monkeypatch, capfd, "--workdir=work")
    assert "it is not a study's folder" in error


def refused(tmp_path, monkeypatch, capfd, *arguments):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "8")
    before = read_tree(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.study", "--config", "tiny.py", *arguments])
    with pytest.raises(SystemExit) as exit_:
        run(main)
    out, error = capfd.readouterr()
    assert exit_.value.code == 2
    assert names_only_phases(out)
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert read_tree(tmp_path) == before
    return error
