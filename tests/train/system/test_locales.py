"""Runs in a locale that is not UTF-8, with names that ASCII does not have."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.support import image_folder
from tests.support.processes import ROOT, summary

pytestmark = pytest.mark.slow

C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LOCALES = {"de_DE.ISO-8859-1": ("de_DE", "ISO-8859-1"), "zh_CN.GBK": ("zh_CN", "GBK")}
CLASSES = ("Äpfel", "梨")
CONFIG = """\
from train.config import default_config
def get_config():
  config = default_config()
  config.data.update(name="folder", dir={data!r}, image_size=8, batch_size=6)
  config.data.update(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
  config.num_steps, config.eval.batch_size, config.eval.per_class = 2, 4, True
  return config
"""


def rename_classes(root):
    """Give the two classes of an image folder names that are not ASCII."""
    for split in ("train", "test"):
        for old, new in zip(image_folder.CLASSES, CLASSES, strict=True):
            (root / split / old).rename(root / split / new)


@pytest.fixture(params=["C", "C with latin-1 output", *LOCALES])
def environment(request, tmp_path):
    """Return the environment of a locale; it is built, because few machines have it."""
    if request.param.startswith("C"):
        output = {"PYTHONIOENCODING": "latin-1"} if "output" in request.param else {}
        return os.environ | C_LOCALE | output
    if not shutil.which("localedef"):
        pytest.skip("localedef is not installed")
    language, charmap = LOCALES[request.param]
    built = subprocess.run(
        ["localedef", "-i", language, "-f", charmap, tmp_path / request.param],
        capture_output=True,
        check=False,
    )
    if built.returncode:
        pytest.skip(f"the sources of the locale {request.param} are not installed")
    return os.environ | {"LOCPATH": str(tmp_path), "LC_ALL": request.param, "PYTHONUTF8": "0"}


def run_bytes(environment, module, *arguments, cwd=ROOT):
    """Run a command; return the status, stdout and stderr, which are not decoded."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=cwd,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_names_are_the_same_in_every_locale(environment, tmp_path):
    """The folder is named in the config, and the work folder on the command line."""
    data = tmp_path / "Bilder größer ☃"
    image_folder.write(data)
    rename_classes(data)
    config = tmp_path / "prüfung.py"
    config.write_text(CONFIG.format(data=str(data)), encoding="utf-8")
    workdir = tmp_path / "läufe" / "跑"
    status, out, error = run_bytes(environment, "train", "--config", config, "--workdir", workdir)
    assert (status, error) == (0, b"")
    assert b"test top-1" in out
    assert {line["class"] for line in summary(workdir)["test_per_class"]} == set(CLASSES)
    saved = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
    assert saved["data.dir"] == str(data)
    status, out, _ = run_bytes(environment, "train", "--config", config, "--workdir", workdir)
    assert status == 0
    assert b"already finished" in out


@pytest.mark.parametrize("command", ["train", "train.study", "train.aot"])
def test_error_is_one_line_in_every_locale(command, environment):
    status, _, error = run_bytes(environment, command, "--config=größe/☃.py")
    assert status == 2
    assert error.startswith(b"error: --config 'gr")
    assert error.count(b"\n") == 1


def test_report_of_study_is_utf8(tmp_path):
    config = tmp_path / "study.py"
    config.write_text(
        "from tests.support.studying import tiny\n"
        "def get_config():\n"
        "  config = tiny()\n"
        "  config.variants = {'größer ☃': {'model': {'norm': 'group'}}}\n"
        "  return config\n",
        encoding="utf-8",
    )
    workdir = tmp_path / "ergebnis ä"
    status, _, error = run_bytes(
        os.environ | C_LOCALE, "train.study", "--config", config, "--workdir", workdir
    )
    assert (status, error) == (0, b"")
    for name in ("report.md", "report.html"):
        assert "größer ☃" in (workdir / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [b"\xe4", b"a\xff", b"\xc3\x28/run"])
@pytest.mark.parametrize("flag", ["--workdir", "--config.init_from", "--config.data.dir"])
def test_name_that_is_not_utf8_is_rejected(flag, name, tmp_path):
    config = ROOT / "configs" / "digits_gc.py"
    done = subprocess.run(
        [sys.executable, "-m", "train", "--config", config, flag.encode() + b"=" + name],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert re.match(rb"error: [^\n]*(are not UTF-8; rename it|printable text)\n$", done.stderr)
    assert list(tmp_path.iterdir()) == []
