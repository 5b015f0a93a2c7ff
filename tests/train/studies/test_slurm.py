"""A study as Slurm jobs, and training runs as the scripts of the documentation start them."""

import importlib.util
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.support import slurm
from tests.support.processes import (
    EXACT_SETTINGS,
    ROOT,
    SETTINGS,
    has_metrics,
    result,
    run,
    summary,
    wait_for_exit,
    wait_for_line,
    wait_until,
)
from tests.support.studying import SMALLEST_CONFIG, results_of, start

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing()),
]

PAGE = (ROOT / "docs/studies/clusters.md").read_text(encoding="utf-8")
SCRIPTS = {
    name: text
    for text, name in re.findall(
        r"^```bash\n(#!/bin/bash\n# (\w+\.sh)\n.*?)^```", PAGE, re.M | re.S
    )
}
FLAGS = (*SETTINGS, "--config.num_steps=800")  # enough for a signal to come in time


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    with slurm.cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def job_processes(workdir):
    """Return the processes of the jobs of a study that run."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().split(b"\0")
        except OSError:  # the process has ended
            continue
        if bytes(workdir / "slurm") in words and b"srun" not in words[0]:
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
    assert wait_until(lambda: job_processes(remote), process)
    os.kill(job_processes(remote)[0], signal.SIGKILL)
    wait_for_line(process, "ended without a result; its task starts again")
    process.send_signal(signal.SIGTERM)
    _, error = wait_for_exit(process, status=75)
    assert "finished runs are saved; run the same command again" in error
    slurm.wait_until(lambda: slurm.is_idle(environment))
    made = results_of(remote)
    wait_for_exit(start(remote, "--engine=slurm", config=config))
    wait_for_exit(reference)
    assert results_of(remote) == results_of(local)
    assert made.items() <= results_of(remote).items()
    assert (remote / "report.html").exists()


def submit(environment, folder, *arguments, tasks=1):
    """Submit `train.sh` of the documentation; return the number of the job, and its log."""
    script, log = folder / "train.sh", folder / "train.log"
    script.write_text(SCRIPTS["train.sh"])
    options = ["--parsable", f"--nodelist={slurm.HOST}", "--nodes=1", f"--output={log}"]
    variables = {
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
        "JAX_NUM_CPU_DEVICES": "1",
        "XLA_FLAGS": "",
    }
    command = ["sbatch", *options, f"--ntasks={tasks}", str(script), *arguments]
    return slurm.run(command, environment | variables, cwd=ROOT).strip(), log


def test_requeued_run_gives_the_result_of_an_undisturbed_one(environment, tmp_path):
    """SIGTERM, status 75, requeued, resumed."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run(whole, *FLAGS)
    job, log = submit(environment, tmp_path, "--workdir", str(stopped), *FLAGS)
    slurm.wait_until(has_metrics(stopped))
    slurm.run(["scancel", "--signal=TERM", job], environment)  # as --signal=TERM@30 does
    slurm.wait_until((stopped / "summary.json").exists)
    slurm.wait_until(lambda: slurm.is_idle(environment))
    assert "Restarts=1" in slurm.run(["scontrol", "show", "job", job], environment)
    assert "resuming after step" in log.read_text()
    assert result(stopped) == result(whole)


def test_two_processes_find_each_other(environment, tmp_path):
    folder = tmp_path / "two"
    arguments = ("--workdir", str(folder), "--distributed", *EXACT_SETTINGS)
    _, log = submit(environment, tmp_path, *arguments, tasks=2)
    slurm.wait_until(lambda: slurm.is_idle(environment))
    assert "on 2 cpu device(s)" in log.read_text()
    assert summary(folder)["steps"] == 40
