"""A run goes on with another number of devices, and the order of examples never changes."""

import itertools

import numpy as np
import pytest

from tests.support.processes import kill, metrics, run, start, wait_until

STEPS = 40
DEVICES = (8, 1, 8, 2, 4, 8)  # fewer, more, and back
SETTINGS = (
    f"--config.num_steps={STEPS}",
    "--config.log_every_steps=1",
    "--config.checkpoint.every_steps=4",
    "--config.optimizer.learning_rate=0.01",  # low: rounding must not grow into another course
)


@pytest.fixture(scope="module")
def relay(tmp_path_factory):
    """A work folder that was handed on, and where each of its processes began."""
    workdir = tmp_path_factory.mktemp("relay") / "run"
    beginnings = [0]
    for devices in DEVICES[:-1]:
        process = start(workdir, *SETTINGS, devices=devices)
        assert wait_until(lambda: newest(workdir) > beginnings[-1], process), process.communicate()
        kill(process)
        beginnings.append(newest(workdir))
    out = run(workdir, *SETTINGS, devices=DEVICES[-1])
    assert f"resuming after step {beginnings[-1]}" in out
    assert "on 8 cpu device(s)" in out
    return workdir, beginnings


def newest(workdir):
    """The step of the newest checkpoint."""
    checkpoints = workdir / "checkpoints"
    steps = [file.name for file in checkpoints.iterdir()] if checkpoints.exists() else []
    return max((int(step) for step in steps if step.isdigit()), default=0)


def test_every_leg_was_run(relay):
    _, beginnings = relay
    assert len(beginnings) == len(DEVICES)
    assert all(before < after for before, after in itertools.pairwise(beginnings))


def test_the_losses_are_those_of_a_run_on_one_device(relay, tmp_path):
    workdir, _ = relay
    run(tmp_path, *SETTINGS)
    is_, should = (metrics(folder, "train") for folder in (workdir, tmp_path))
    assert [line["step"] for line in is_] == list(range(1, STEPS + 1))
    np.testing.assert_allclose(
        [line["loss"] for line in is_], [line["loss"] for line in should], atol=1e-4
    )
