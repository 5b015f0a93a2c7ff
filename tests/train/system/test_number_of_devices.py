"""A run that resumes on other numbers of devices gives the losses of one device."""

import itertools

import numpy as np
import pytest

from tests.support.processes import (
    EXACT_SETTINGS,
    kill,
    metrics,
    run,
    saved_steps,
    start,
    wait_until,
)

pytestmark = pytest.mark.slow

DEVICES = (8, 1, 2, 8)
FLAGS = (*EXACT_SETTINGS, "--config.checkpoint.every_steps=4")


@pytest.fixture(scope="module")
def relay(tmp_path_factory):
    """Return the work folder of a run on changing devices, and the first step on each of them."""
    workdir = tmp_path_factory.mktemp("relay") / "run"
    first_steps = [0]
    for devices in DEVICES[:-1]:
        process = start(workdir, *FLAGS, devices=devices, optimize=False)
        assert wait_until(lambda: newest(workdir) > first_steps[-1], process), process.communicate()
        kill(process)
        first_steps.append(newest(workdir))
    out = run(workdir, *FLAGS, devices=DEVICES[-1], optimize=False)
    assert f"resuming after step {first_steps[-1]}" in out
    assert "on 8 cpu device(s)" in out
    return workdir, first_steps


def newest(workdir):
    return max(saved_steps(workdir), default=0)


def test_run_advances_on_all_devices(relay):
    _, first_steps = relay
    assert len(first_steps) == len(DEVICES)
    assert all(before < after for before, after in itertools.pairwise(first_steps))


def test_losses_equal_one_device(relay, tmp_path):
    workdir, _ = relay
    run(tmp_path, *FLAGS, optimize=False)
    actual, expected = (metrics(folder, "train") for folder in (workdir, tmp_path))
    assert [line["step"] for line in actual] == list(range(1, 41))
    np.testing.assert_allclose(
        [line["loss"] for line in actual], [line["loss"] for line in expected], atol=1e-4
    )
