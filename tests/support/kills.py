"""Training runs that are killed many times, at random moments of four kinds."""

import time
from typing import NamedTuple

from tests.support.processes import (
    SETTINGS,
    count_metrics,
    has_metrics,
    is_saving,
    kill,
    result,
    start,
    wait_for_exit,
    wait_until,
)

FLAGS = (*SETTINGS, "--config.checkpoint.every_steps=5")
MOMENTS = {"start": 0.25, "training": 0.2, "save": 0.45, "end": 0.1}
"""What a run does when it is killed, and the probability."""


class Kill(NamedTuple):
    """One kill: its kind, and whether a checkpoint was being written."""

    moment: str
    mid_save: bool


class Outcome(NamedTuple):
    """The outcome of many kills.

    Attributes:
      num_runs: The number of runs; each was killed and restarted until it finished.
      kills: All kills.
      failed: The work folders of runs whose result differs from an uninterrupted run's.
    """

    num_runs: int
    kills: list[Kill]
    failed: list[str]


def kill_many(folder, num_kills, rng, log=lambda line: None):
    """Start, kill and restart runs until `num_kills` kills are done and every run has finished."""
    expected, start_seconds = _uninterrupted(folder)
    kills: list[Kill] = []
    failed: list[str] = []
    num_runs = 0
    while len(kills) < num_kills:
        workdir = folder / str(num_runs)
        num_runs += 1
        while len(kills) < num_kills and (last := _start_and_kill(workdir, rng, start_seconds)):
            kills.append(last)
        if not (workdir / "summary.json").exists():
            wait_for_exit(start(workdir, *FLAGS))
        if result(workdir) != expected or is_saving(workdir):
            failed.append(str(workdir))
        log(f"run {num_runs}: {len(kills)} kills so far, {len(failed)} failed runs")
    return Outcome(num_runs, kills, failed)


def _uninterrupted(folder):
    """Return the result of an uninterrupted run, and the seconds before its first metrics."""
    workdir = folder / "uninterrupted"
    wait_for_exit(start(workdir, *FLAGS))
    began = time.monotonic()
    process = start(folder / "timed", *FLAGS)  # with all programs compiled, as all later runs
    assert wait_until(has_metrics(folder / "timed"), process)
    seconds = time.monotonic() - began
    kill(process)
    return result(workdir), seconds


def _start_and_kill(workdir, rng, start_seconds):
    """Return the kill, or None if the run finished first."""
    began = time.time()
    process = start(workdir, *FLAGS)
    moment = rng.choices(list(MOMENTS), MOMENTS.values())[0]
    _wait_for(moment, workdir, process, rng, start_seconds)
    if process.poll() is not None:
        wait_for_exit(process)
        return None
    kill(process)
    return Kill(moment, mid_save=is_saving(workdir, since=began))


def _wait_for(moment, workdir, process, rng, start_seconds):
    match moment:
        case "start":
            time.sleep(rng.uniform(0, start_seconds))
        case "training":
            lines = count_metrics(workdir) + rng.randint(1, 3)
            wait_until(has_metrics(workdir, lines), process)
            time.sleep(rng.uniform(0, 0.2))
        case "save":
            for _ in range(rng.randint(1, 3)):
                wait_until(lambda: not is_saving(workdir), process)
                wait_until(lambda: is_saving(workdir), process)
            time.sleep(rng.uniform(0, 0.02))
        case "end":
            wait_until((workdir / "curves.png").exists, process)
            time.sleep(rng.uniform(0, 0.02))
