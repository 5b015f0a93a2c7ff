"""`make data`: the names and folders that it takes, up to the download."""

import importlib.util
import os
import subprocess
import sys

import pytest

from tests.support.processes import ROOT

HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None
USAGE = "usage: make data NAME=cifar100"


def prepare(**environment):
    """Run the program behind `make data`; return its one line on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "train.prepare"],
        cwd=ROOT,
        env=os.environ | {"TFDS_DATA_DIR": ""} | environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_missing_name_shows_the_usage():
    assert USAGE in prepare(NAME="")


@pytest.mark.parametrize(
    "name", ["a;b", "$(ls)", "../x", "x y", "-h", "a/b/c", "mnist:1", "x" * 300]
)
def test_wrong_name_is_rejected(name):
    error = prepare(NAME=name)
    assert "is not the name of a data set; use a TFDS name such as 'cifar100'" in error


@pytest.mark.parametrize("folder", ["s3://bucket/x", "gs://bucket", str(ROOT / "README.md")])
def test_wrong_folder_is_rejected(folder):
    assert "is not a folder of this machine" in prepare(NAME="mnist", TFDS_DATA_DIR=folder)


@pytest.mark.skipif(HAS_TENSORFLOW, reason="TensorFlow is installed")
@pytest.mark.parametrize("name", ["cifar100", "imdb_reviews/plain_text", "mnist:3.0.1"])
def test_environment_without_tensorflow_names_the_command(name, tmp_path):
    error = prepare(NAME=name, TFDS_DATA_DIR=str(tmp_path))
    assert f"run make data NAME={name} TFDS_DATA_DIR={tmp_path}" in error


def test_make_passes_the_name_on():
    done = subprocess.run(
        ["make", "-n", "data", "NAME=cifar100"], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    assert ".venv-data/bin/python -m train.prepare" in done.stdout
    assert "tensorflow" in done.stdout
