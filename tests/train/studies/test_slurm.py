"""A study as Slurm jobs, and training runs as the scripts of the documentation start them."""

import importlib.util
import os
import signal
from pathlib import Path

import pytest

from tests.support import slurm
from tests.support.processes import wait_for_exit, wait_for_line, wait_until
from tests.support.studying import SMALLEST_CONFIG, results_of, start

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing()),
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    with slurm.cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def job_processes():
    """Return the processes of the tasks of jobs that run."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().split(b"\0")
        except OSError:  # the process has ended
            continue
        if b"submitit.core._submit" in words and b"srun" not in words[0]:
            found.append(int(file.parent.name))
    return found


@pytest.mark.skipif(not importlib.util.find_spec("submitit"), reason="submitit is not installed")
def test_slurm_gives_the_results_of_this_machine(environment, tmp_path, monkeypatch):
    """A job is killed, then the driver is stopped; the same command goes on."""
    config, local, remote = tmp_path / "study_tiny.py", tmp_path / "local", tmp_path / "remote"
    config.write_text(SMALLEST_CONFIG)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    reference = start(local, config=config)
    process = start(remote, "--engine=slurm", config=config)
    wait_until(lambda: job_processes(), process)
    os.kill(job_processes()[0], signal.SIGKILL)
    wait_for_line(process, "ended without a result; its task starts again")
    process.send_signal(signal.SIGTERM)
    _, error = wait_for_exit(process, status=75)
    assert "finished runs are saved; run the same command again" in error
    wait_until(lambda: not slurm.run(["squeue", "--noheader"], environment), reference)
    made = results_of(remote)
    wait_for_exit(start(remote, "--engine=slurm", config=config))
    wait_for_exit(reference)
    assert results_of(remote) == results_of(local)
    assert made.items() <= results_of(remote).items()
    assert (remote / "report.html").exists()
