"""Real training processes: how they are started and stopped, and what they leave behind."""

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Compiling is half of a start, and the processes of a test file compile the same few programs.
PROGRAMS = tempfile.TemporaryDirectory(prefix="programs-")
atexit.register(PROGRAMS.cleanup)


def start(workdir, *overrides, devices=1, config="digits_gc", compile_anew=False, **options):
    """The real command; `options` are those of `Popen`."""
    command = [sys.executable, "-m", "train", "--config", f"configs/{config}.py"]
    environment = {"JAX_NUM_CPU_DEVICES": str(devices), "XLA_FLAGS": ""}  # as users compile
    if not compile_anew:
        environment["JAX_COMPILATION_CACHE_DIR"] = PROGRAMS.name
    return subprocess.Popen(
        [*command, "--workdir", str(workdir), *overrides],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def end_of(process, status=0):
    """Waits for the end, checks the status; returns what was printed on stdout and stderr."""
    out, error = process.communicate(timeout=300)
    assert process.returncode == status, f"{process.returncode}: {error or out}"
    return out, error


def run(workdir, *overrides, status=0, **options):
    """A run to its end; what it printed on stdout, or, if it should fail, on stderr."""
    out, error = end_of(start(workdir, *overrides, **options), status)
    return error if status else out


def wait_until(condition, process, seconds=120.0):
    """Waits for a truth in the life of a process; False if the process ended without it."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            return condition()
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.002)
    return True


def cluster(count):
    """The flags of each of `count` processes that are one run."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    return [
        (
            "--distributed",
            f"--coordinator=localhost:{port}",
            f"--num_processes={count}",
            f"--process_id={index}",
        )
        for index in range(count)
    ]


def kill(process):
    """SIGKILL, and the end of it."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


def has_checkpoint(workdir, step):
    """A condition to wait for."""
    return lambda: (workdir / "checkpoints" / str(step)).exists()


def writes_checkpoint(workdir, since=0.0):
    """Whether there is a checkpoint half written, and written to after a time of `time.time()`."""
    with contextlib.suppress(FileNotFoundError), os.scandir(workdir / "checkpoints") as entries:
        return any("tmp" in entry.name and entry.stat().st_ctime > since for entry in entries)
    return False


def has_metrics(workdir, lines=1):
    """A condition to wait for: so many lines are written."""
    file = workdir / "metrics.jsonl"
    return lambda: file.exists() and file.read_bytes().count(b"\n") >= lines


def summary(workdir):
    return json.loads((workdir / "summary.json").read_text())


def metrics(workdir, split=None):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if split in (None, line["split"])]


def result(workdir):
    """What must not depend on how often a run was stopped."""
    return summary(workdir)["params_sha256"], (workdir / "metrics.jsonl").read_text()


def contents(workdir):
    return {file: file.read_bytes() for file in workdir.rglob("*") if file.is_file()}
