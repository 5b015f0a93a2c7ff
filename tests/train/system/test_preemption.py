"""A signal ends a run after the step in flight, saved, and it goes on to the same result."""

import re
import signal
import time

import pytest

from tests.support import fine_grained
from tests.support.processes import (
    cluster,
    end_of,
    has_metrics,
    kill,
    metrics,
    result,
    run,
    start,
    wait_until,
)

# So many steps that a signal comes in between, and no checkpoint that is not the signal's.
SETTINGS = (
    "--config.num_steps=80",
    "--config.log_every_steps=4",
    "--config.checkpoint.every_steps=80",
    "--config.eval.every_epochs=9",
)


def start_and_wait(workdir, lines=3):
    process = start(workdir, *SETTINGS)
    file = workdir / "metrics.jsonl"
    before = file.read_bytes().count(b"\n") if file.exists() else 0
    assert wait_until(has_metrics(workdir, before + lines), process), process.communicate()
    return process


def checkpoints(workdir):
    return {int(file.name) for file in (workdir / "checkpoints").iterdir()}


def said_step(error):
    """The step of the one line that a stopped run prints."""
    assert error.count("\n") == 1, error
    return int(re.match(r"stopped after step (\d+), which is saved; run the same", error)[1])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted")
    run(workdir, *SETTINGS)
    return result(workdir)


def test_sigterm_then_sigint_then_twice_sigint_and_the_result_is_the_same(uninterrupted, tmp_path):
    steps = []
    for signum in (signal.SIGTERM, signal.SIGINT):
        process = start_and_wait(tmp_path)
        process.send_signal(signum)
        _, error = end_of(process, status=75)
        steps.append(said_step(error))
        assert max(checkpoints(tmp_path)) == steps[-1]
    assert 0 < steps[0] < steps[1] < 80

    process = start_and_wait(tmp_path)
    while process.poll() is None:  # two that come within one step are one to Python
        process.send_signal(signal.SIGINT)
        time.sleep(0.005)
    _, error = end_of(process, status=-signal.SIGINT)
    assert error == ""
    assert max(checkpoints(tmp_path)) == steps[-1], "it stopped at once and saved nothing"

    assert f"resuming after step {steps[-1]}" in run(tmp_path, *SETTINGS)
    assert result(tmp_path) == uninterrupted


def test_a_streamed_run_goes_on_with_the_same_images(tmp_path):
    images = tmp_path / "images"
    fine_grained.write_folder(images, train_per_class=3)
    settings = (
        *SETTINGS,
        "--config.data.name=folder",
        f"--config.data.dir={images}",
        "--config.data.image_size=8",
        "--config.data.flip=True",
        "--config.data.pad=0",
        "--config.data.mean=(0.5,0.5,0.5)",
        "--config.data.std=(0.25,0.25,0.25)",
    )
    run(tmp_path / "uninterrupted", *settings)
    process = start(tmp_path / "run", *settings)
    assert wait_until(has_metrics(tmp_path / "run", 3), process), process.communicate()
    process.send_signal(signal.SIGTERM)
    _, error = end_of(process, status=75)
    assert 0 < said_step(error) < 80
    assert f"resuming after step {said_step(error)}" in run(tmp_path / "run", *settings)
    assert result(tmp_path / "run") == result(tmp_path / "uninterrupted")


def test_a_signal_before_the_training_leaves_no_traceback(tmp_path):
    process = start(tmp_path / "run", *SETTINGS)
    time.sleep(2)  # it is importing, or at the latest compiling
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode in (-signal.SIGINT, 75)
    assert error.count("\n") == (process.returncode == 75)


class Pair:
    """Two processes of two devices each that are one run."""

    def __init__(self, workdir):
        self.workdir = workdir
        self.processes = [start(workdir, *SETTINGS, *flags, devices=2) for flags in cluster(2)]

    def end(self, status=0):
        try:
            return [end_of(process, status) for process in self.processes]
        finally:
            for process in self.processes:
                if process.poll() is None:
                    kill(process)


def test_two_processes_agree_on_the_step_and_keep_others_out(tmp_path):
    Pair(tmp_path / "uninterrupted").end()
    pair = Pair(tmp_path / "run")
    assert wait_until(has_metrics(tmp_path / "run", 3), pair.processes[0])
    for process in pair.processes:
        process.send_signal(signal.SIGSTOP)  # else it might be over before the others are there
    errors = [error for _, error in Pair(tmp_path / "run").end(status=2)]
    assert errors[0].startswith("error: another run is working in ")
    assert errors[1] == "error: process 0 stopped with an error; see its output\n"
    for process in pair.processes:
        process.send_signal(signal.SIGCONT)
    pair.processes[1].send_signal(signal.SIGTERM)
    ends = pair.end(status=75)
    steps = {int(re.search(r"stopped after step (\d+)", error)[1]) for _, error in ends}
    assert steps == checkpoints(tmp_path / "run")
    assert not (tmp_path / "run" / "summary.json").exists()
    resumed = Pair(tmp_path / "run").end()
    assert f"resuming after step {steps.pop()}" in resumed[0][0]
    assert result(tmp_path / "run") == result(tmp_path / "uninterrupted")
    assert [line["step"] for line in metrics(tmp_path / "run", "test")] == [80]
