"""Command lines that run in the process of the tests, which saves the start of a process."""

import sys

import pytest

from tests.support.processes import names_only_phases
from train.__main__ import main
from train.cli import run


@pytest.fixture
def exit_status(tmp_path, monkeypatch):
    """Return a function that runs a command line in an empty folder and returns its status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))

    def exit_status(*arguments, command=main):
        monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            run(command)
        return exit_.value.code

    return exit_status


@pytest.fixture
def rejected(exit_status, tmp_path, capfd):
    """Return a function that runs a wrong command line and returns its one line on stderr.

    It checks that the status is 2, that stdout only names phases, and that no file has changed.
    """

    def rejected(*arguments, command=main):
        before = read_tree(tmp_path)
        status = exit_status(*arguments, command=command)
        out, error = capfd.readouterr()
        assert status == 2, error
        assert names_only_phases(out), out
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert error.endswith("\n")
        assert read_tree(tmp_path) == before
        return error

    return rejected


def read_tree(folder):
    """Return the content of each file below a folder, and the mode of everything else."""
    return {
        path: path.read_bytes() if path.is_file() else path.lstat().st_mode
        for path in folder.rglob("*")
    }
