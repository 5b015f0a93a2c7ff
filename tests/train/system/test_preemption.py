"""A signal stops a run after the current dispatch, saved; it resumes to the same result."""

import re
import signal
import time

import pytest

from tests.support import fine_grained
from tests.support.processes import (
    SETTINGS,
    count_metrics,
    has_metrics,
    result,
    run,
    saved_steps,
    start,
    wait_for_exit,
    wait_until,
)

pytestmark = pytest.mark.slow

# Only a signal makes a run save or evaluate before its last step.
FLAGS = (*SETTINGS, "--config.checkpoint.every_steps=80", "--config.eval.every_epochs=9")


def start_and_wait(workdir, *flags, lines=3):
    """Start a run and wait until it has logged some lines."""
    process = start(workdir, *FLAGS, *flags)
    assert wait_until(has_metrics(workdir, count_metrics(workdir) + lines), process)
    return process


def stopped_step(error):
    """Return the step in the one line that a stopped run prints."""
    assert error.count("\n") == 1, error
    return int(re.match(r"stopped after step (\d+), which is saved; run the same", error)[1])


def test_stopped_run_gives_same_result(tmp_path):
    run(tmp_path / "uninterrupted", *FLAGS)
    workdir, steps = tmp_path / "run", []
    for signum in (signal.SIGTERM, signal.SIGINT):
        process = start_and_wait(workdir)
        process.send_signal(signum)
        _, error = wait_for_exit(process, status=75)
        steps.append(stopped_step(error))
        assert saved_steps(workdir)[-1] == steps[-1]
    assert 0 < steps[0] < steps[1] < 80

    process = start_and_wait(workdir)
    while process.poll() is None:  # Python handles two signals within one step as one
        process.send_signal(signal.SIGINT)
        time.sleep(0.005)
    _, error = wait_for_exit(process, status=-signal.SIGINT)
    assert error == ""
    assert saved_steps(workdir)[-1] == steps[-1], "a second signal stops at once, unsaved"

    assert f"resuming after step {steps[-1]}" in run(workdir, *FLAGS)
    assert result(workdir) == result(tmp_path / "uninterrupted")


def test_streamed_run_resumes_with_same_images(tmp_path):
    images = tmp_path / "images"
    fine_grained.write_folder(images, train_per_class=3)
    flags = (
        "--config.data.name=folder",
        f"--config.data.dir={images}",
        "--config.data.image_size=8",
        "--config.data.flip=True",
        "--config.data.pad=0",
        "--config.data.mean=(0.5,0.5,0.5)",
        "--config.data.std=(0.25,0.25,0.25)",
    )
    run(tmp_path / "uninterrupted", *FLAGS, *flags)
    process = start_and_wait(tmp_path / "run", *flags)
    process.send_signal(signal.SIGTERM)
    _, error = wait_for_exit(process, status=75)
    assert 0 < stopped_step(error) < 80
    assert f"resuming after step {stopped_step(error)}" in run(tmp_path / "run", *FLAGS, *flags)
    assert result(tmp_path / "run") == result(tmp_path / "uninterrupted")


def test_early_signal_prints_no_traceback(tmp_path):
    process = start(tmp_path / "run", *FLAGS)
    time.sleep(2)  # it is importing, or at the latest compiling
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode in (-signal.SIGINT, 75)
    assert error.count("\n") == (process.returncode == 75)
