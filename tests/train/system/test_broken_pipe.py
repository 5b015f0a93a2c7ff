"""Commands whose stdout is closed early, as by `| head -1`, end without a traceback."""

import os
import subprocess
import sys

import pytest

from tests.support.processes import ROOT
from train.cli import EXIT_BROKEN_PIPE

pytestmark = pytest.mark.slow

COMMANDS = {
    "train": ["-m", "train", "--help"],
    "study": ["-m", "train.study", "--help"],
    "aot": ["-m", "train.aot", "--help"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_closed_stdout_is_silent(command, unbuffered):
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as closed_pipe:
        done = subprocess.run(
            [sys.executable, *COMMANDS[command]],
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=closed_pipe,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            check=False,
        )
    assert done.stderr == ""
    assert done.returncode == EXIT_BROKEN_PIPE
