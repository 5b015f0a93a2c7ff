"""A new work folder may hold the files that file managers and file systems put into any folder."""

import contextlib

import pytest

from tests.support.processes import ROOT
from train import cli
from train.data.dataset import Signature
from train.errors import UserError
from train.output import files
from train.output.workdir import WorkDir
from train.studies.results import Results

CONFIG = cli.parse(["train", "--config", str(ROOT / "configs" / "digits_gc.py")], str).config
SIGNATURE = Signature(10, (8, 8, 1))
STRAY = ("lost+found", ".DS_Store", "._x", ".nfs000012", "Thumbs.db", "@eaDir", ".Trash-1000")
USERS = ("thesis.tex", ".git", "results", "lost", "x.DS_Store", "data", ".env", "nfs1")


@pytest.mark.parametrize("name", STRAY)
@pytest.mark.parametrize("is_folder", [True, False])
def test_stray_file_is_accepted(name, is_folder, tmp_path):
    (tmp_path / name).mkdir() if is_folder else (tmp_path / name).touch()
    Results(tmp_path, None)
    work = WorkDir(tmp_path, CONFIG)
    work.acquire({}, SIGNATURE)
    work.release()
    assert (tmp_path / name).exists()
    assert (tmp_path / "config.json").exists()


@pytest.mark.parametrize("written", range(3))
def test_killed_start_is_continued(written, tmp_path, monkeypatch):
    """A kill between two of the first files leaves a folder that the next start accepts."""
    writes = []

    def write_until_kill(file, text):
        if len(writes) == written:
            raise KeyboardInterrupt
        writes.append(file)
        write(file, text)

    write = files.write_atomically
    work = WorkDir(tmp_path, CONFIG)
    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(files, "write_atomically", write_until_kill)
        work.acquire({"train": {"examples": 1, "sha256": "0"}}, SIGNATURE)
    work.release()
    WorkDir(tmp_path, CONFIG).acquire({"train": {"examples": 1, "sha256": "0"}}, SIGNATURE)
    assert (tmp_path / "data.json").exists()


@pytest.mark.parametrize("name", USERS)
def test_other_file_is_rejected(name, tmp_path):
    (tmp_path / ".DS_Store").touch()
    (tmp_path / name).touch()
    with pytest.raises(UserError, match="so it is not a work folder"):
        WorkDir(tmp_path, CONFIG)
    with pytest.raises(UserError, match="so it is not a study's folder"):
        Results(tmp_path, None)
