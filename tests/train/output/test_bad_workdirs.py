"""Work folders in which a run can neither begin nor go on; none of them is touched."""

import fcntl
import json
import os

import pytest

from tests.support.processes import ROOT
from train import cli
from train.config import flatten

# What libraries warn of on the way to an error is not what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore")

CONFIG = str(ROOT / "configs" / "digits_gc.py")
OURS = json.dumps(flatten(cli.parse(["train", "--config", CONFIG], "").config))
TRAIN = '{"step": 50, "split": "train", "epoch": 2.2, "loss": 1.5, "top1": 0.5, "top5": 0.9, '
TRAIN += '"learning_rate": 0.1, "gc_removed_fraction": 0.1}\n'
DEEP = "[" * 100_000


def ours(folder, **files):
    """A work folder of ours, with the files given by their stem."""
    folder.mkdir()
    names = {"config": "config.json", "metrics": "metrics.jsonl", "summary": "summary.json"}
    for stem, content in ({"config": OURS} | files).items():
        file = folder / names.get(stem, stem)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())


# What happens before, and what the error says.
FOLDERS = {
    "a file": (lambda at: at.write_text("thesis"), "is a file; give it a folder"),
    "a device": (lambda at: at.symlink_to("/dev/null"), "is a file; give it a folder"),
    "a way to itself": (lambda at: at.symlink_to(at), "cannot"),
    "someone's": (
        lambda at: (at.mkdir(), (at / "thesis.tex").write_text("")),
        "contains files but no config.json, so it is not a work folder; use a new or an empty one",
    ),
    "a folder of folders": (lambda at: (at / "thesis").mkdir(parents=True), "not a work folder"),
    "another configuration": (
        lambda at: ours(at, config=OURS.replace('"seed": 0', '"seed": 7')),
        "(seed: 7 there, 0 now); use another --workdir, or the config of that run",
    ),
    "a config without fields": (lambda at: ours(at, config="{}"), "of another config"),
    "an endless value": (
        lambda at: ours(at, config=OURS.replace('"digits"', f'"{"x" * 10_000}"')),
        "data.name: 'xxx",
    ),
    "a torn config": (lambda at: ours(at, config=OURS[:99]), "config.json is damaged; use another"),
    "an empty config": (lambda at: ours(at, config=""), "config.json is damaged"),
    "a config that is a list": (lambda at: ours(at, config="[1]"), "config.json is damaged"),
    "a config that is a number": (lambda at: ours(at, config="1e999"), "config.json is damaged"),
    "a config in no encoding": (lambda at: ours(at, config=b"\xff\x00"), "config.json is damaged"),
    "a bottomless config": (lambda at: ours(at, config=DEEP), "config.json is damaged"),
    "a config that is a folder": (lambda at: (at / "config.json").mkdir(parents=True), "damaged"),
    "a torn summary": (lambda at: ours(at, summary="{"), "summary.json is damaged; use another"),
    "a summary that is a list": (lambda at: ours(at, summary="[]"), "summary.json is damaged"),
    "a summary without result": (lambda at: ours(at, summary="{}"), "summary.json is damaged"),
    "a summary with another": (lambda at: ours(at, summary='{"test_top1": "a"}'), "is damaged"),
    "a summary in no encoding": (lambda at: ours(at, summary=b"\xff"), "summary.json is damaged"),
    "torn metrics": (lambda at: ours(at, metrics=TRAIN + "{\n"), "line 2 of", "remove that line"),
    "metrics in no encoding": (lambda at: ours(at, metrics=b"\xff\xfe\n"), "line 1 of"),
    "metrics full of zeros": (lambda at: ours(at, metrics=b"\0" * 99 + b"\n"), "line 1 of"),
    "an empty line": (lambda at: ours(at, metrics=TRAIN + "\n" + TRAIN), "line 2 of"),
    "a list for a line": (lambda at: ours(at, metrics=TRAIN + "[1]\n"), "line 2 of"),
    "a bottomless line": (lambda at: ours(at, metrics=DEEP + "\n"), "line 1 of"),
    "a line without step": (lambda at: ours(at, metrics=TRAIN.replace("step", "stop")), "line 1"),
    "an infinite step": (lambda at: ours(at, metrics=TRAIN.replace("50", "1e999")), "line 1 of"),
    "a line without loss": (lambda at: ours(at, metrics=TRAIN.replace("loss", "lost")), "line 1"),
    "a loss that is text": (lambda at: ours(at, metrics=TRAIN.replace("1.5", '"a"')), "line 1 of"),
    "a third split": (lambda at: ours(at, metrics=TRAIN.replace("train", "trial")), "line 1 of"),
    "a split that is a list": (
        lambda at: ours(at, metrics=TRAIN.replace('"train"', "[]")),
        "line 1 of",
    ),
    "metrics that are a folder": (
        lambda at: (ours(at), (at / "metrics.jsonl").mkdir()),
        "metrics.jsonl: Is a directory; fix it, or use another --workdir",
    ),
    "checkpoints that are a file": (
        lambda at: ours(at, checkpoints=""),
        "run/checkpoints is not a folder",
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_cannot_be_used_is_left_as_it_is(case, tmp_path, refusal):
    prepare, *expected = FOLDERS[case]
    prepare(tmp_path / "run")
    error = refusal("--config", CONFIG, "--workdir", "run")
    assert all(part in error for part in expected), error
    assert "run" in error
    assert len(error) < 4000


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("file/run", "cannot write to the work folder file/run: Not a directory; choose another"),
        ("file/a/b/c", "cannot write to the work folder"),
        ("/dev/null/run", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("/proc/nothing/run", "choose another with --workdir"),
    ],
)
def test_a_place_where_no_folder_can_be(folder, expected, tmp_path, refusal):
    (tmp_path / "file").write_text("")
    assert expected in refusal("--config", CONFIG, "--workdir", folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_must_not_be_written(tmp_path, refusal):
    ours(tmp_path / "run")
    (tmp_path / "run").chmod(0o500)
    assert "Permission denied" in refusal("--config", CONFIG, "--workdir", "run")


def test_a_folder_in_which_a_run_is_at_work(tmp_path, refusal):
    ours(tmp_path / "run")
    other = os.open(tmp_path / "run", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    assert "another run is working in run" in refusal("--config", CONFIG, "--workdir", "run")
    os.close(other)
