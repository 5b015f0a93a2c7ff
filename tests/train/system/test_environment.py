"""Runs in unusual surroundings: work folders, locales, Matplotlib settings, stray files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from train import cli
from train.output.curves import draw_curves
from train.tasks.classification import Classification

DIGITS = ("--config", str(ROOT / "configs" / "digits_gc.py"))


@pytest.mark.parametrize("text", ["~/x", "~", "~/a/../b"])
def test_workdir_expands_the_home_folder(text, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    workdir = cli.parse(["train", *DIGITS, f"--workdir={text}"], str).workdir
    assert workdir == Path(text.replace("~", "/home/someone"))


@pytest.mark.parametrize(
    "text",
    ["s3://b/run", "gs://bucket/run", "file:///tmp/run", "hdfs:/run", "https://host/x", "S3://b"],
)
def test_workdir_url_is_rejected(text, rejected):
    assert "is a URL, but must be a path on a local" in rejected(*DIGITS, f"--workdir={text}")


@pytest.mark.parametrize("text", ["~nosuchuser/x", "~nosuchuser", "~no.such.user/a/b"])
def test_workdir_of_unknown_user_is_rejected(text, rejected):
    assert "write the full path" in rejected(*DIGITS, f"--workdir={text}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        "text.usetex: True",
        "font.family: nosuchfont\naxes.formatter.use_locale: True",
        "backend: nonsense",
        "figure.dpi: -3\nsavefig.format: nonsense",
    ],
)
def test_matplotlibrc_is_ignored(settings, tmp_path):
    (tmp_path / "matplotlibrc").write_text(settings)
    code = (
        "from pathlib import Path; from train.output.curves import draw_curves; "
        "from train.tasks.classification import Classification; "
        f"draw_curves([Path({str(tmp_path / 'curves.png')!r})], "
        "[{'split': 'test', 'epoch': 1.0, 'loss': 1.0, 'top1': 0.5}], 'a $title', "
        "Classification.headline)"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"MPLCONFIGDIR": str(tmp_path)},
        check=True,
        capture_output=True,
    )
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("title", ["$$", "a_b ^ %", r"\alpha $x", "α ☃"])
def test_any_title_can_be_drawn(title, tmp_path):
    lines = [{"split": "train", "epoch": 1.0, "loss": None, "top1": None}]
    draw_curves([tmp_path / "curves.png"], lines, title, Classification.headline)
    assert (tmp_path / "curves.png").exists()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk"])
def test_terminal_encoding_ends_no_command(encoding):
    code = (
        "import sys; from train import cli\n"
        "def command(argv):\n  print('± ≥ ☃ ä')\n  return 0\n"
        "cli.run(command)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"?" in done.stdout


def test_files_are_written_in_utf8(tmp_path):
    """In a locale that is not UTF-8."""
    code = (
        "from pathlib import Path; from train.output.files import write_atomically, write_json\n"
        f"write_atomically(Path({str(tmp_path / 'text')!r}), '\\xb1 \\u2603')\n"
        f"write_json(Path({str(tmp_path / 'json')!r}), {{'name': '\\u2603'}})"
    )
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ | environment, check=True)
    assert (tmp_path / "text").read_bytes().decode("utf-8") == "± ☃"
    assert json.loads((tmp_path / "json").read_bytes()) == {"name": "☃"}
