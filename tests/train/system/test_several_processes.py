"""Two processes of two devices each against one process of one device."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.support import imagenet
from tests.support.processes import ROOT, cluster, end_of, metrics, run, start

STEPS = ("--config.num_steps=20", "--config.log_every_steps=1")


def losses(workdir):
    return [[line["loss"] for line in metrics(workdir, split)] for split in ("train", "test")]


def run_both_ways(tmp_path, *overrides):
    """The losses of one process, and of two."""
    run(tmp_path / "one", *STEPS, *overrides)
    pair = [start(tmp_path / "two", *STEPS, *overrides, *flags, devices=2) for flags in cluster(2)]
    outs = [end_of(process)[0] for process in pair]
    assert "on 4 cpu device(s)" in outs[0]
    assert "step" not in outs[1], "only the first process speaks"
    return losses(tmp_path / "one"), losses(tmp_path / "two")


def assert_close(one, two):
    assert len(one[0]) == 20
    for of_one, of_two in zip(one, two, strict=True):
        np.testing.assert_allclose(of_one, of_two, atol=1e-4)


def test_the_losses_are_the_same(tmp_path):
    assert_close(*run_both_ways(tmp_path))


def test_the_losses_of_a_streamed_set_are_the_same(tmp_path):
    rng = np.random.default_rng(0)
    examples = [
        (imagenet.jpeg(rng, *rng.integers(9, 40, 2), "RGB"), int(label))
        for label in rng.permutation(imagenet.NUM_CLASSES)
    ]
    imagenet.write(tmp_path / "data", train=examples, validation=examples[:21])
    one, two = run_both_ways(
        tmp_path,
        "--config.data.name=imagenet2012",
        f"--config.data.dir={tmp_path / 'data'}",
        "--config.data.image_size=8",
        "--config.data.pad=0",
        "--config.data.flip=true",
        "--config.data.mean=(0.5,0.5,0.5)",
        "--config.data.std=(0.25,0.25,0.25)",
        "--config.optimizer.learning_rate=0.01",
    )
    assert_close(one, two)


@pytest.mark.parametrize(
    ("differing", "name"),
    [
        (("--workdir=other",), "--workdir differs"),
        (("--config.seed=1",), "the config differs"),
        (("--config.gc.mode=none", "--config.data.flip=true"), "the config differs"),
    ],
)
def test_differing_processes_are_rejected(differing, name, tmp_path):
    """In one line from each process, before anything is written."""
    first, second = cluster(2)
    workdir = str(tmp_path / "run")
    pair = [start(workdir, *STEPS, *first), start(workdir, *STEPS, *second, *differing)]
    for process in pair:
        _, error = end_of(process, status=2)
        assert error.startswith(f"error: {name} between the processes of the run: process 1 and")
        assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def example_ids(steps, *flags, devices):
    command = [sys.executable, "-m", "tests.support.example_ids", str(steps)]
    return subprocess.Popen(
        [*command, "--config", "configs/digits_gc.py", *flags],
        cwd=ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_an_epoch_has_the_same_examples_none_lost_none_twice():
    steps = 23  # 1,437 examples in batches of 64: the last one begins the next epoch
    one = end_of(example_ids(steps, devices=1))[0].split()
    pair = [example_ids(steps, *flags, devices=2) for flags in cluster(2)]
    of_each = [end_of(process)[0].splitlines() for process in pair]
    both = [
        number for lines in zip(*of_each, strict=True) for line in lines for number in line.split()
    ]
    assert [len(lines[0].split()) for lines in of_each] == [32, 32]
    assert sorted(map(int, both[:1437])) == list(range(1437))
    assert both == one
