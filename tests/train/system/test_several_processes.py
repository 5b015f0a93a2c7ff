"""Runs of two processes with two devices each."""

import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests.support import imagenet
from tests.support.processes import (
    EXACT_SETTINGS,
    ROOT,
    cluster_flags,
    has_metrics,
    kill,
    metrics,
    result,
    run,
    saved_steps,
    start,
    wait_for_exit,
    wait_until,
)

pytestmark = pytest.mark.slow


class Pair:
    """Two processes with two devices each that form one run."""

    def __init__(self, workdir, *flags):
        self.workdir = workdir
        self.processes = [
            start(workdir, *EXACT_SETTINGS, *flags, *process_flags, devices=2, optimize=False)
            for process_flags in cluster_flags(2)
        ]

    def wait_for_exit(self, status=0):
        """Return stdout and stderr of each process."""
        try:
            return [wait_for_exit(process, status) for process in self.processes]
        finally:
            for process in self.processes:
                if process.poll() is None:
                    kill(process)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the work folder of a finished run of two processes."""
    workdir = tmp_path_factory.mktemp("pair") / "run"
    outputs = [out for out, _ in Pair(workdir).wait_for_exit()]
    assert "on 4 cpu device(s)" in outputs[0]
    assert "step" not in outputs[1], "only the first process prints"
    return workdir


def assert_same_losses(workdir, other):
    for split, count in (("train", 40), ("test", 1)):
        losses, expected = (
            [line["loss"] for line in metrics(folder, split)] for folder in (workdir, other)
        )
        assert len(losses) == count
        np.testing.assert_allclose(losses, expected, atol=1e-4)


def test_losses_equal_one_process(finished, tmp_path):
    run(tmp_path, *EXACT_SETTINGS, optimize=False)
    assert_same_losses(finished, tmp_path)


def test_streamed_losses_equal_one_process(tmp_path):
    rng = np.random.default_rng(0)
    examples = [
        (imagenet.jpeg(rng, *rng.integers(9, 40, 2), "RGB"), int(label))
        for label in rng.permutation(imagenet.NUM_CLASSES)
    ]
    imagenet.write(tmp_path / "data", train=examples, validation=examples[:21])
    flags = (
        "--config.data.name=imagenet2012",
        f"--config.data.dir={tmp_path / 'data'}",
        "--config.data.image_size=8",
        "--config.data.pad=0",
        "--config.data.flip=true",
        "--config.data.mean=measure",
        "--config.data.std=measure",
    )
    run(tmp_path / "one", *EXACT_SETTINGS, *flags, optimize=False)
    Pair(tmp_path / "two", *flags).wait_for_exit()
    assert_same_losses(tmp_path / "two", tmp_path / "one")


def test_processes_stop_at_same_step(finished, tmp_path):
    pair = Pair(tmp_path)
    assert wait_until(has_metrics(tmp_path, 3), pair.processes[0])
    for process in pair.processes:
        process.send_signal(signal.SIGSTOP)  # otherwise it could finish before the others start
    errors = [error for _, error in Pair(tmp_path).wait_for_exit(status=2)]
    assert errors[0].startswith("error: another run is working in ")
    assert errors[1] == "error: process 0 stopped with an error; see its output\n"
    for process in pair.processes:
        process.send_signal(signal.SIGCONT)
    pair.processes[1].send_signal(signal.SIGTERM)
    outputs = pair.wait_for_exit(status=75)
    steps = {int(re.search(r"stopped after step (\d+)", error)[1]) for _, error in outputs}
    assert steps == set(saved_steps(tmp_path))
    assert not (tmp_path / "summary.json").exists()
    resumed = Pair(tmp_path).wait_for_exit()
    assert f"resuming after step {steps.pop()}" in resumed[0][0]
    assert result(tmp_path) == result(finished)
    assert [line["step"] for line in metrics(tmp_path, "test")] == [40]


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (("--workdir=other",), "--workdir differs"),
        (("--config.seed=1", "--config.gc.mode=none"), "the config differs"),
    ],
)
def test_differing_processes_are_rejected(flags, name, tmp_path):
    first, second = cluster_flags(2)
    pair = [
        start(tmp_path / "run", *EXACT_SETTINGS, *first),
        start(tmp_path / "run", *EXACT_SETTINGS, *second, *flags),
    ]
    for process in pair:
        _, error = wait_for_exit(process, status=2)
        assert error.startswith(f"error: {name} between the processes of the run: process 1 and")
        assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def start_example_ids(steps, *flags, devices):
    command = [sys.executable, "-m", "tests.support.example_ids", str(steps)]
    return subprocess.Popen(
        [*command, "--config", "configs/digits_gc.py", *flags],
        cwd=ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def test_epoch_has_each_example_once():
    steps = 23  # the last of 1,437 examples are in a batch with the first ones of the next epoch
    one = wait_for_exit(start_example_ids(steps, devices=1))[0].split()
    pair = [start_example_ids(steps, *flags, devices=2) for flags in cluster_flags(2)]
    lines = [wait_for_exit(process)[0].splitlines() for process in pair]
    assert [len(lines_of_process[0].split()) for lines_of_process in lines] == [32, 32]
    both = [number for step in zip(*lines, strict=True) for line in step for number in line.split()]
    assert sorted(map(int, both[:1437])) == list(range(1437))
    assert both == one
