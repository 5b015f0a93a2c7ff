"""Paths of flags, fields and variables: `~` is expanded, URLs and unknown users are rejected."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from train import aot, cli, study
from train.config.paths import local_path
from train.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")

FILE = ROOT / "configs" / "digits_gc.py"
DIGITS = ("--config", FILE)
STUDY = ("--config", ROOT / "configs" / "study_digits.py")
FOLDER = (*DIGITS, "--config.data.name=folder", "--config.data.image_size=8", "--config.data.pad=0")
URLS = ("gs://bucket/x", "s3://b", "file:///tmp/x", "hdfs:/x", "https://host/x.py", "S3://b/x")
# What takes a path: the command, and the arguments before the path.
PLACES = {
    "--workdir": (None, (*DIGITS, "--workdir=")),
    "--config": (None, ("--config=",)),
    "config.data.dir": (None, (*DIGITS, "--config.data.dir=")),
    "config.data.dir of a folder": (None, (*FOLDER, "--config.data.dir=")),
    "config.init_from": (None, (*DIGITS, "--config.init_from=")),
    "--workdir of a study": (study.main, (*STUDY, "--workdir=")),
    "--config of a study": (study.main, ("--config=",)),
    "config.base.data.dir": (study.main, (*STUDY, "--config.base.data.dir=")),
    "config.base.init_from": (study.main, (*STUDY, "--config.base.init_from=")),
    "--config of aot": (aot.main, ("--config=",)),
}


def reject(rejected, place, text):
    command, arguments = PLACES[place]
    *first, last = arguments
    options = {"command": command} if command else {}
    error = rejected(*first, f"{last}{text}", **options)
    assert error.startswith(f"error: {place.partition(' ')[0]}={text!r}")
    return error


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("url", URLS)
def test_url_is_rejected(place, url, rejected):
    assert "is a URL, but must be a path" in reject(rejected, place, url)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("text", ["~nosuchuser/x", "~no.such.user", "~nosuchuser/a/../b"])
def test_unknown_user_is_rejected(place, text, rejected):
    assert "write the full path" in reject(rejected, place, text)


@pytest.mark.parametrize("url", ["gs://bucket/x", "s3://b", "~nosuchuser/x"])
def test_data_folder_of_environment_is_checked(url, exit_status, monkeypatch, capfd):
    monkeypatch.setenv("TFDS_DATA_DIR", url)
    assert exit_status("--config", ROOT / "configs" / "cifar100_gc.py") == 2
    assert capfd.readouterr().err.startswith(f"error: TFDS_DATA_DIR={url!r}")


@pytest.mark.parametrize("text", ["~/x.png", "~", "~/a/b", "~root/x"])
def test_home_is_expanded(text, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert local_path("--workdir", text) == Path(os.path.expanduser(text))
    assert "~" not in str(local_path("--workdir", text))


@pytest.mark.parametrize("text", ["a:b", "./s3://b", "x.py:/data", "C:", "a~", "./~/x", "~/x:y"])
def test_other_paths_are_kept(text, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    expected = text.replace("~/x:", "/home/someone/x:")
    assert local_path("--workdir", text) == Path(expected)


def test_config_in_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my config.py").write_bytes(FILE.read_bytes())
    command = cli.parse(["train", "--config=~/my config.py", "--workdir=~/run"], str)
    assert command.config.num_epochs == 40
    assert command.workdir == tmp_path / "run"


@pytest.mark.parametrize("text", ["~", "~/x"])
def test_unknown_home_is_one_line(text):
    """In a container whose user has no entry in the password file, without HOME."""
    code = (
        "import os, pwd\n"
        "os.environ.pop('HOME', None)\n"
        "def missing(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = missing\n"
        "import sys; from train import cli, __main__; cli.run(__main__.main)"
    )
    for flag in ("--workdir", "--config.data.dir", "--config.init_from", "--config"):
        arguments = [f"{flag}={text}"] if flag == "--config" else [*DIGITS, f"{flag}={text}"]
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=ROOT,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 2, done.stderr
        name = flag.replace("--config.", "config.")
        assert done.stderr.startswith(f"error: {name}={text!r}: ")
        assert done.stderr.endswith("write the full path\n")
        assert done.stderr.count("\n") == 1


def test_error_names_the_source():
    with pytest.raises(UserError, match=r"XDG='s3://b' is a URL"):
        local_path("XDG", "s3://b")
