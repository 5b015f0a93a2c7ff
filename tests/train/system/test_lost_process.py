"""A process of a run that is lost ends the others with one line, in a limited time."""

import signal
import subprocess
import sys
import time

import pytest

from tests.support.processes import (
    ROOT,
    SETTINGS,
    cluster_flags,
    has_metrics,
    is_saving,
    kill,
    result,
    run,
    saved_steps,
    start,
    wait_for_exit,
    wait_for_line,
    wait_until,
)
from train.runtime.stderr_filter import LOST, NOT_STARTED, filter_lines
from train.runtime.watchdog import EXIT_LOST_PROCESS

LONG = ("--config.num_epochs=100000", "--config.log_every_steps=10")
SAVES = (*LONG, "--config.checkpoint.every_steps=2")
HANGS = (
    "import sys, time; from train.runtime import distributed; "
    "distributed.initialize(sys.argv[1], 2, 1, None); print('connected', flush=True); "
    "time.sleep(600)"
)


@pytest.fixture
def pair(tmp_path):
    """Return a function that starts the two processes of a run; they are killed at the end."""
    processes = []

    def pair(*flags, timeout=20):
        flags = (*flags, f"--timeout={timeout}")
        processes.extend(
            start(tmp_path / "run", *flags, *process_flags, optimize=False)
            for process_flags in cluster_flags(2)
        )
        return processes

    yield pair
    for process in processes:
        kill(process)


def assert_ends_with_one_line(process, within):
    start_time = time.monotonic()
    _, error = wait_for_exit(process, EXIT_LOST_PROCESS)
    assert time.monotonic() - start_time < within
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_process_that_never_starts(index, tmp_path):
    flags = (*cluster_flags(2)[index], "--timeout=3")
    error = assert_ends_with_one_line(start(tmp_path / "run", *flags), within=60)
    assert NOT_STARTED in error
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_process_killed_at_the_start(pair):
    processes = pair(*LONG)
    wait_for_line(processes[0], "compiling")
    kill(processes[1])
    assert_ends_with_one_line(processes[0], within=60)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_process_killed_in_training(killed, pair, tmp_path):
    processes = pair(*LONG)
    assert wait_until(has_metrics(tmp_path / "run"), processes[0])
    kill(processes[killed])
    assert_ends_with_one_line(processes[1 - killed], within=60)


@pytest.mark.slow
def test_process_killed_in_a_checkpoint(pair, tmp_path):
    processes = pair(*SAVES)
    assert wait_until(lambda: saved_steps(tmp_path / "run"), processes[0])
    assert wait_until(lambda: is_saving(tmp_path / "run"), processes[0])
    kill(processes[1])
    assert_ends_with_one_line(processes[0], within=90)
    assert saved_steps(tmp_path / "run")


@pytest.mark.slow
def test_process_killed_at_the_end(pair, tmp_path):
    processes = pair(*SETTINGS)
    assert wait_until((tmp_path / "run" / "curves.png").exists, processes[0])
    kill(processes[1])
    _, error = processes[0].communicate(timeout=60)
    # Process 1 may have finished before.
    assert processes[0].returncode in (0, EXIT_LOST_PROCESS)
    assert error.count("\n") == (processes[0].returncode != 0)
    assert (tmp_path / "run" / "summary.json").exists()


@pytest.mark.slow
def test_run_resumes_after_a_killed_process(pair, tmp_path):
    flags = (*SETTINGS, "--config.checkpoint.every_steps=10")
    processes = pair(*flags)
    assert wait_until(lambda: saved_steps(tmp_path / "run"), processes[0])
    kill(processes[1])
    assert_ends_with_one_line(processes[0], within=60)
    for process in pair(*flags)[2:]:
        wait_for_exit(process)
    assert result(tmp_path / "run")[1].count("\n") == 21


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [0, 1])
def test_frozen_process(frozen, pair, tmp_path):
    processes = pair(*LONG)
    assert wait_until(has_metrics(tmp_path / "run"), processes[0])
    processes[frozen].send_signal(signal.SIGSTOP)
    assert_ends_with_one_line(processes[1 - frozen], within=60)


@pytest.fixture
def waiting(tmp_path):
    """Return a function that starts a process whose other process hangs, but is alive."""
    started = []

    def waiting(timeout):
        flags = cluster_flags(2)[0]
        coordinator = flags[1].partition("=")[2]
        hanging = subprocess.Popen(
            [sys.executable, "-c", HANGS, coordinator],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        started.append(hanging)
        process = start(tmp_path / "run", *flags, f"--timeout={timeout}")
        started.append(process)
        assert hanging.stdout.readline() == "connected\n"
        return process

    yield waiting
    for process in started:
        kill(process)


@pytest.mark.slow
def test_hanging_process(waiting):
    error = assert_ends_with_one_line(waiting(timeout=12), within=60)
    assert "error: no progress for 1" in error


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_a_waiting_process(signum, waiting):
    process = waiting(timeout=300)
    time.sleep(3)  # it waits for the devices of the other process
    process.send_signal(signum)
    _, error = wait_for_exit(process, -signum)
    assert error == ""


@pytest.mark.slow
def test_second_signal_ends_a_waiting_run(pair, tmp_path):
    processes = pair(*LONG, timeout=300)
    assert wait_until(has_metrics(tmp_path / "run"), processes[0])
    processes[1].send_signal(signal.SIGSTOP)
    time.sleep(3)  # process 0 has finished the steps that it had started
    processes[0].send_signal(signal.SIGTERM)
    wait_for_line(processes[0], "finishing and saving")
    processes[0].send_signal(signal.SIGTERM)
    wait_for_exit(processes[0], -signal.SIGTERM)


def test_timeout_needs_distributed(rejected):
    config = ROOT / "configs" / "digits_gc.py"
    assert "--timeout need --distributed" in rejected("--config", config, "--timeout=5")
    for value in ("0", "-3", "1.5", "soon"):
        error = rejected("--config", config, "--distributed", f"--timeout={value}")
        assert "timeout" in error


ABORT = (
    "E1127 01:13:08.241887   10369 coordination_service_agent.cc:289] Polled an error\n",
    "of two lines\n",
    "F1127 01:13:08.273082   10369 client.h:80] Terminating process because the JAX ...\n",
    "*** Check failure stack trace: ***\n",
    "    @     0x7fda84440634  absl::lts_20260107::log_internal::LogMessage::SendToLog()\n",
)
OTHER = "W1127 01:13:08.241887   10369 gpu_timer.cc:99] slow\n"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (ABORT, [f"error: {LOST}\n"]),
        ((*ABORT, "RPC: /xla.coordination.CoordinationService/RegisterTask\n"),
         [f"error: {NOT_STARTED}\n"]),
        ((OTHER, "text\n", *ABORT), [OTHER, "text\n", f"error: {LOST}\n"]),
        ((*ABORT[:2], OTHER, "text\n"), [OTHER, "text\n"]),
        (("error: full disk\n", *ABORT), ["error: full disk\n"]),
        ((*ABORT[:4], "error: full disk\n", *ABORT[4:]), ["error: full disk\n"]),
        (("error: a\n", OTHER, "error: b\n"), ["error: a\n", OTHER]),
        ((), []),
    ],
)  # fmt: skip
def test_filter_of_stderr(lines, expected):
    assert list(filter_lines(lines)) == expected


@pytest.mark.slow
def test_one_process_is_a_run(tmp_path):
    out = run(tmp_path / "run", "--config.num_steps=4", *cluster_flags(1)[0])
    assert "test top-1" in out


@pytest.mark.slow
def test_preemption_service_is_needed(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_ENABLE_PREEMPTION_SERVICE", "false")
    error = run(tmp_path / "run", *cluster_flags(1)[0], status=2)
    assert "unset JAX_ENABLE_PREEMPTION_SERVICE" in error
    assert error.count("\n") == 1
