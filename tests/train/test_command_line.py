"""What a person types wrong ends in one line on stderr, status 2, and nothing written."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from train.__main__ import main
from train.command_line import run

# What libraries warn of on the way to an error is not what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore")

ROOT = Path(__file__).parents[2]
DIGITS = ("--config", str(ROOT / "configs" / "digits_gc.py"))
CIFAR = ("--config", str(ROOT / "configs" / "cifar100_gc.py"))

MISTAKES = {
    "no config": ((), "--config is missing"),
    "a config that is not there": (("--config", "configs/nothing.py"), "is not a file"),
    "an unknown flag": ((*DIGITS, "--speed=3"), "speed"),
    "a stray argument": ((*DIGITS, "fast"), "unknown argument 'fast'"),
    "an unknown field": ((*DIGITS, "--config.optimizer.nam=adam"), "nam"),
    "a word for a number": ((*DIGITS, "--config.data.batch_size=many"), "data.batch_size"),
    "a bad number": ((*DIGITS, "--config.optimizer.learning_rate=-1"), "learning_rate=-1.0"),
    "a number that is none": ((*DIGITS, "--config.optimizer.learning_rate=nan"), "above 0"),
    "an unknown optimizer": ((*DIGITS, "--config.optimizer.name=adamm"), "one of sgd, momentum"),
    "an unknown model": ((*DIGITS, "--config.model.name=resnet"), "one of convnet, resnet18"),
    "an unknown mode": ((*DIGITS, "--config.gc.mode=half"), "one of none, all, conv"),
    "a batch that does not divide": ((*DIGITS, "--config.data.batch_size=12"), "multiple of 8"),
    "a batch larger than the data": ((*DIGITS, "--config.data.batch_size=4096"), "1437"),
    "an unknown data set": ((*CIFAR, "--config.data.name=cifar1000"), "neither 'digits' nor"),
}


@pytest.fixture
def somewhere_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


def status_of(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    with pytest.raises(SystemExit) as exit_:
        run(main)
    return exit_.value.code


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_status_2(mistake, somewhere_empty, monkeypatch, capsys):
    arguments, expected = MISTAKES[mistake]
    assert status_of(monkeypatch, *arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert expected in error
    assert list(somewhere_empty.iterdir()) == []


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="has TensorFlow")
def test_data_that_is_not_prepared_names_the_command_that_prepares_it(
    somewhere_empty, monkeypatch, capsys
):
    assert status_of(monkeypatch, *CIFAR) == 2
    assert "tfds build cifar100 --file_format=array_record" in capsys.readouterr().err
    assert list(somewhere_empty.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def get_config(:", "line 1"),
        ("import nonsuch", "nonsuch"),
        ("x = 1", "get_config"),
        ("def get_config(): return None", "ConfigDict"),
        ("def get_config(): raise ValueError('no luck')", "no luck"),
    ],
)
def test_a_config_file_that_does_not_load(source, expected, somewhere_empty, monkeypatch, capsys):
    file = somewhere_empty / "broken.py"
    file.write_text(source)
    assert status_of(monkeypatch, "--config", str(file)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert expected in error
    assert not (somewhere_empty / "runs").exists()


def test_the_real_command_prints_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "train", *DIGITS, "--workdir", "w", "--config.gc.mode=half"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: config.gc.mode='half' is not allowed; it must be one of none, all, conv\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_help_shows_the_usage(monkeypatch, capsys):
    assert status_of(monkeypatch, "--help") == 0
    assert "usage: python -m train --config FILE" in capsys.readouterr().out
