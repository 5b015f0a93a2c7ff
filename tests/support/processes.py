"""Training runs in processes of their own: start and stop them, and read their work folders."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]

# These fields are compiled into the programs of a run. Test files that share them share the
# compiled programs, and compiling takes longer than all the rest of a run.
SETTINGS = ("--config.num_steps=80", "--config.log_every_steps=4")
EXACT_SETTINGS = (
    "--config.num_steps=40",
    "--config.log_every_steps=1",
    # Low, so that rounding differences between numbers of devices do not grow.
    "--config.optimizer.learning_rate=0.01",
)


def start(
    workdir,
    *overrides,
    devices=1,
    config="digits_gc",
    use_cache=True,
    optimize=True,
    **popen_options,
):
    """Start `python -m train` on CPU devices.

    Args:
      workdir: The work folder.
      *overrides: Further flags.
      devices: The number of devices of the process.
      config: The name of a file in `configs/`.
      use_cache: Whether programs that other processes of the tests compiled are used.
      optimize: Whether programs are compiled as for users, not as fast as possible.
      **popen_options: Further arguments of `Popen`.
    """
    command = [sys.executable, "-m", "train", "--config", f"configs/{config}.py"]
    environment = {
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_ENABLE_COMPILATION_CACHE": str(use_cache).lower(),
    }
    if optimize:
        environment["XLA_FLAGS"] = ""
    return subprocess.Popen(
        [*command, "--workdir", str(workdir), *overrides],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        **popen_options,
    )


def wait_for_exit(process, status=0):
    """Wait for the end of a process, check its status, and return its stdout and stderr."""
    out, error = process.communicate(timeout=300)
    assert process.returncode == status, f"{process.returncode}: {error or out}"
    return out, error


def run(workdir, *overrides, status=0, **options):
    """Run `python -m train`; return its stdout, or its stderr if `status` is not 0."""
    out, error = wait_for_exit(start(workdir, *overrides, **options), status)
    return error if status else out


def wait_until(condition, process, seconds=120.0):
    """Wait until `condition()` holds; return False if the process ended before."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            return condition()
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.002)
    return True


def names_only_phases(out):
    """Return whether stdout has only lines such as "compiling the training step ..."."""
    return all(line.endswith(" ...") for line in out.splitlines())


def cluster_flags(count):
    """Return the flags of each of `count` processes that form one run."""
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
    """Send SIGKILL and wait for the end."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


def wait_for_line(process, text):
    """Wait until stdout has a line that contains `text`."""
    shown = []
    for line in process.stdout:
        shown.append(line)
        if text in line:
            return
    raise AssertionError(f"no {text!r} in {shown}: {process.communicate()[1]}")


def has_checkpoint(workdir, step):
    """Return a condition for `wait_until`: the checkpoint of a step exists."""
    return (workdir / "checkpoints" / str(step)).exists


def has_metrics(workdir, lines=1):
    """Return a condition for `wait_until`: the metrics have so many lines."""
    return lambda: count_metrics(workdir) >= lines


def count_metrics(workdir):
    """Return the number of complete lines of `metrics.jsonl`."""
    file = workdir / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def is_saving(workdir, since=0.0):
    """Return whether a partial checkpoint exists that was written to after a `time.time()`."""
    with contextlib.suppress(FileNotFoundError), os.scandir(workdir / "checkpoints") as entries:
        return any("tmp" in entry.name and entry.stat().st_ctime > since for entry in entries)
    return False


def saved_steps(workdir):
    """Return the steps of the complete checkpoints, in order."""
    folder = workdir / "checkpoints"
    names = [file.name for file in folder.iterdir()] if folder.exists() else []
    return sorted(int(name) for name in names if name.isdigit())


def summary(workdir):
    """Return the content of `summary.json`."""
    return json.loads((workdir / "summary.json").read_text())


def metrics(workdir, split=None):
    """Return the lines of `metrics.jsonl`, of one split or of both."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if split in (None, line["split"])]


def result(workdir):
    """Return what must not depend on interruptions: the digest of the weights, and the metrics."""
    return summary(workdir)["params_sha256"], (workdir / "metrics.jsonl").read_text()


def contents(workdir):
    """Return the content of each file in a folder."""
    return {file: file.read_bytes() for file in workdir.rglob("*") if file.is_file()}
