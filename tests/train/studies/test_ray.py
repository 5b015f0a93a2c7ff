"""A study on a Ray cluster of two nodes."""

import importlib.util
import os
import signal
import time
from pathlib import Path

import pytest

from tests.support import ray_nodes
from tests.support.processes import wait_for_exit, wait_until
from tests.support.studying import SMALL_CONFIG, results_of, start

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="ray is not installed"),
]


@pytest.fixture(scope="module")
def address():
    with ray_nodes.cluster() as address:
        yield address


def task_processes():
    """Return the processes that are at a task of a study."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if file.read_bytes().startswith(b"ray::perform"):
                found.append(int(file.parent.name))
        except OSError:  # the process has ended
            continue
    return found


def test_ray_gives_the_results_of_this_machine(address, tmp_path, monkeypatch):
    """A worker is killed, then the driver is stopped; the same command goes on."""
    config, local, remote = tmp_path / "study_tiny.py", tmp_path / "local", tmp_path / "remote"
    config.write_text(SMALL_CONFIG)
    file = remote / "results.jsonl"
    monkeypatch.setenv("RAY_ADDRESS", address)
    process = start(remote, "--engine=ray", config=config)
    assert wait_until(lambda: len(task_processes()) == 2, process)  # one on each node
    killed = task_processes()[0]
    os.kill(killed, signal.SIGKILL)
    assert wait_until(lambda: file.exists() and file.read_bytes().count(b"\n") >= 2, process)
    process.send_signal(signal.SIGTERM)
    _, error = wait_for_exit(process, status=75)
    assert "finished runs are saved; run the same command again" in error
    made = results_of(remote)
    deadline = time.monotonic() + 30
    while task_processes():
        assert time.monotonic() < deadline, "a cancelled task goes on"
        time.sleep(0.1)
    wait_for_exit(start(remote, "--engine=ray", config=config))
    wait_for_exit(start(local, config=config))
    assert results_of(remote) == results_of(local)
    assert made.items() <= results_of(remote).items()
    assert (remote / "report.html").exists()


def test_missing_cluster_is_one_line(tmp_path, monkeypatch):
    config = tmp_path / "study_tiny.py"
    config.write_text(SMALL_CONFIG)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    _, error = wait_for_exit(start(tmp_path / "study", "--engine=ray", config=config), status=2)
    assert error.startswith("error: --engine=ray found no Ray cluster")
    assert error.count("\n") == 1
