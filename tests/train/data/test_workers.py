"""Data worker processes: they end with their parent, and their errors reach the user."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.support import imagenet, streaming
from tests.support.processes import wait_for_exit
from train.data.records import EncodedImage
from train.data.streaming import pipeline
from train.errors import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write(tmp_path_factory.mktemp("imagenet"))


def write(root, last=None):
    content = imagenet.jpeg(np.random.default_rng(0), 20, 20)
    train = [(content, label) for label in range(999)] + [(last or content, 999)]
    imagenet.write(root, train=train, validation=train[:8])
    return root


@contextlib.contextmanager
def streaming_process(root, workers=2):
    """Start a process; yield it and its workers' process ids once it streams."""
    arguments, folder = streaming.command(root, workers)
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        children = [int(number) for number in process.stdout.readline().split()]
        yield process, children
    finally:
        process.kill()
        process.communicate()


def ended(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until_ended(children, seconds=60):
    deadline = time.monotonic() + seconds
    while not all(map(ended, children)):
        assert time.monotonic() < deadline, "the workers still run"
        time.sleep(0.01)


def test_workers_end_with_killed_parent(root):
    with streaming_process(root) as (process, children):
        assert len(children) == 2
        process.kill()
        wait_until_ended(children)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_workers_block_signals(signum, root):
    with streaming_process(root) as (process, children):
        for child in children:
            os.kill(child, signum)
        os.kill(process.pid, signal.SIGINT)
        _, error = wait_for_exit(process)
        assert error == ""
        wait_until_ended(children)


def test_dead_worker_is_reported(root):
    with streaming_process(root) as (process, children):
        os.kill(children[0], signal.SIGKILL)
        _, error = wait_for_exit(process, status=2)
        assert error.startswith("error: a data worker process died")
        # Python's resource tracker can add a warning about the shared memory of the dead worker.
        assert "exit code -9" in error.splitlines()[0]
        assert "Traceback" not in error
        wait_until_ended(children)


def test_damaged_record_is_reported(tmp_path):
    with streaming_process(write(tmp_path, last=b"no image")) as (process, children):
        _, error = wait_for_exit(process, status=2)
        assert error.startswith("error: record 999 of the split 'train' of imagenet2012 in")
        assert error.count("\n") == 1
        wait_until_ended(children)


class Spy:
    """A data set whose error message describes the process that reads it."""

    num_classes, class_names, fix_hint = 2, (), ""

    def __len__(self):
        return 4

    def __getitem__(self, index) -> EncodedImage:
        from jax._src import xla_bridge

        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        raise LookupError(
            f"pid {os.getpid()}, devices {xla_bridge.backends_are_initialized()}, "
            f"{ {'tensorflow', 'sklearn', 'flax'} & set(sys.modules) }, "
            f"{ {signal.SIGINT, signal.SIGTERM} <= blocked }"
        )

    def record_name(self, index):
        return "spy"


def test_worker_initializes_no_device(root):
    config = streaming.config_of(root, workers=1, batch_size=2)
    with (
        pipeline.StreamingDataset(Spy(), Spy(), config, 0, 1).train_batches(0) as batches,
        pytest.raises(UserError) as error,
    ):
        next(batches)
    assert "devices False, set(), True" in str(error.value)
    assert f"pid {os.getpid()}," not in str(error.value)
