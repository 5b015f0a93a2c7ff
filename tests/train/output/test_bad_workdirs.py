"""Work folders in which no run can start or resume are rejected and stay unchanged."""

import json
import os

import pytest

from tests.support.processes import ROOT
from train import cli, study
from train.config import flatten
from train.output.files import lock

# Warnings of libraries on the way to an error are not tested here.
pytestmark = pytest.mark.filterwarnings("ignore")

CONFIG = str(ROOT / "configs" / "digits_gc.py")
CONFIG_JSON = json.dumps(flatten(cli.parse(["train", "--config", CONFIG], str).config))
LINE = (
    '{"step": 50, "split": "train", "epoch": 2.2, "loss": 1.5, "top1": 0.5, "top5": 0.9, '
    '"learning_rate": 0.1, "gc_removed_fraction": 0.1}\n'
)
NESTED = "[" * 100_000


def write_workdir(folder, **files):
    """Write a work folder with the files given by their stem."""
    folder.mkdir()
    names = {"config": "config.json", "metrics": "metrics.jsonl", "summary": "summary.json"}
    for stem, content in ({"config": CONFIG_JSON} | files).items():
        file = folder / names.get(stem, stem)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())


# Each entry: the stem of a file, its content, and parts of the error.
BAD_FILES = {
    "config of another run": (
        "config",
        CONFIG_JSON.replace('"seed": 0', '"seed": 7'),
        "(seed: 7 there, 0 now); use another --workdir, or the config of that run",
    ),
    "config without fields": ("config", "{}", "of another config"),
    "long value": ("config", CONFIG_JSON.replace('"digits"', f'"{"x" * 10_000}"'), "name: 'xxx"),
    "cut config": ("config", CONFIG_JSON[:99], "config.json is damaged; use another"),
    "empty config": ("config", "", "config.json is damaged"),
    "list as config": ("config", "[1]", "config.json is damaged"),
    "number as config": ("config", "1e999", "config.json is damaged"),
    "binary config": ("config", b"\xff\x00", "config.json is damaged"),
    "deeply nested config": ("config", NESTED, "config.json is damaged"),
    "cut summary": ("summary", "{", "summary.json is damaged; use another"),
    "list as summary": ("summary", "[]", "summary.json is damaged"),
    "empty summary": ("summary", "{}", "summary.json is damaged"),
    "text as top-1": ("summary", '{"test_top1": "a"}', "summary.json is damaged"),
    "binary summary": ("summary", b"\xff", "summary.json is damaged"),
    "cut line": ("metrics", LINE + "{\n", "line 2 of", "remove that line"),
    "binary metrics": ("metrics", b"\xff\xfe\n", "line 1 of"),
    "zeros as metrics": ("metrics", b"\0" * 99 + b"\n", "line 1 of"),
    "empty line": ("metrics", LINE + "\n" + LINE, "line 2 of"),
    "list as line": ("metrics", LINE + "[1]\n", "line 2 of"),
    "deeply nested line": ("metrics", NESTED + "\n", "line 1 of"),
    "line without step": ("metrics", LINE.replace("step", "stop"), "line 1 of"),
    "infinite step": ("metrics", LINE.replace("50", "1e999"), "line 1 of"),
    "line without loss": ("metrics", LINE.replace("loss", "lost"), "line 1 of"),
    "text as loss": ("metrics", LINE.replace("1.5", '"a"'), "line 1 of"),
    "unknown split": ("metrics", LINE.replace("train", "trial"), "line 1 of"),
    "list as split": ("metrics", LINE.replace('"train"', "[]"), "line 1 of"),
    "file as checkpoints": ("checkpoints", "", "run/checkpoints is not a folder"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_file_is_rejected(case, tmp_path, rejected):
    stem, content, *expected = BAD_FILES[case]
    write_workdir(tmp_path / "run", **{stem: content})
    error = rejected("--config", CONFIG, "--workdir", "run")
    assert all(part in error for part in ("run", *expected)), error
    assert len(error) < 4000


# Each entry: how to create the folder, and a part of the error.
BAD_FOLDERS = {
    "file": (lambda run: run.write_text("thesis"), "is a file; give it a folder"),
    "device": (lambda run: run.symlink_to("/dev/null"), "is a file; give it a folder"),
    "link to itself": (lambda run: run.symlink_to(run), "a symbolic link that leads back to"),
    "loop of links": (
        lambda run: (run.symlink_to("b"), run.with_name("b").symlink_to("run")),
        "--workdir run is a symbolic link that leads back to itself; give it a folder",
    ),
    "dangling link": (
        lambda run: run.symlink_to("gone"),
        "--workdir run is a symbolic link to gone, which does not exist; give it a folder",
    ),
    "dangling absolute link": (lambda run: run.symlink_to("/gone/x"), "link to /gone/x, which"),
    "link to a dangling link": (
        lambda run: (run.symlink_to("b"), run.with_name("b").symlink_to("gone")),
        "--workdir run is a symbolic link to b, which does not exist",
    ),
    "link to a file": (
        lambda run: (run.symlink_to("b"), run.with_name("b").write_text("")),
        "--workdir run is a file; give it a folder",
    ),
    "pipe": (os.mkfifo, "--workdir run is a file; give it a folder"),
    "folder with other files": (
        lambda run: (run.mkdir(), (run / "thesis.tex").write_text("")),
        "contains files but no config.json, so it is not a work folder; use a new or an empty one",
    ),
    "folder with folders": (lambda run: (run / "a").mkdir(parents=True), "not a work folder"),
    "folder as config": (
        lambda run: (run / "config.json").mkdir(parents=True),
        "config.json is damaged",
    ),
    "folder as metrics": (
        lambda run: (write_workdir(run), (run / "metrics.jsonl").mkdir()),
        "metrics.jsonl: Is a directory; fix it, or use another --workdir",
    ),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_bad_folder_is_rejected(case, tmp_path, rejected):
    create, expected = BAD_FOLDERS[case]
    create(tmp_path / "run")
    error = rejected("--config", CONFIG, "--workdir", "run")
    assert expected in error
    assert "run" in error


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("file/run", "--workdir file/run is inside file, which is a file; give it a folder"),
        ("file/a/b/c", "is inside file, which is a file"),
        ("/dev/null/run", "is inside /dev/null, which is a file"),
        ("link/run", "is inside link, which is a symbolic link to gone, which does not exist"),
        ("loop/a/b", "is inside loop, which is a symbolic link that leads back to itself"),
        ("../link/../link/x", "is inside"),
        ("/sys/run", "choose another with --workdir"),
        ("x" * 300, "File name too long"),
        ("/proc/nothing/run", "choose another with --workdir"),
    ],
)
def test_impossible_folder_is_rejected(folder, expected, tmp_path, rejected):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("gone")
    (tmp_path / "loop").symlink_to("loop")
    folder = folder.replace("../", f"../{tmp_path.name}/", 1)
    assert expected in rejected("--config", CONFIG, "--workdir", folder)


@pytest.mark.parametrize("name", ["link", "loop", "file", "file/run", "link/run"])
def test_impossible_folder_of_a_study_is_rejected(name, tmp_path, rejected):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("gone")
    (tmp_path / "loop").symlink_to("loop")
    config = ROOT / "configs" / "study_digits.py"
    error = rejected("--config", config, "--workdir", name, command=study.main)
    assert error.startswith(f"error: --workdir {name} is ")
    assert error.endswith("; give it a folder\n")


def test_default_folder_is_checked(tmp_path, rejected):
    (tmp_path / "runs").symlink_to("gone")
    error = rejected("--config", CONFIG)
    assert "--workdir runs/digits_gc is inside runs, which is a symbolic link to gone" in error


def test_link_to_a_folder_is_accepted(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    for folder in ("link", "link/new", "link/new/er"):
        argv = ["train", "--config", CONFIG, "--workdir", str(tmp_path / folder)]
        assert cli.parse(argv, str).workdir == tmp_path / folder


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_read_only_folder_is_rejected(tmp_path, rejected):
    write_workdir(tmp_path / "run")
    (tmp_path / "run").chmod(0o500)
    assert "Permission denied" in rejected("--config", CONFIG, "--workdir", "run")


def test_folder_of_active_run_is_rejected(tmp_path, rejected):
    write_workdir(tmp_path / "run")
    descriptor = lock(tmp_path / "run/.lock")
    assert "another run is working in run" in rejected("--config", CONFIG, "--workdir", "run")
    os.close(descriptor)
