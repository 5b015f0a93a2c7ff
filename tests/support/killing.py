"""Runs that are killed again and again, at random moments of four kinds."""

import time
from typing import NamedTuple

from tests.support.processes import (
    end_of,
    has_metrics,
    kill,
    result,
    start,
    wait_until,
    writes_checkpoint,
)

SETTINGS = (
    "--config.num_steps=60",
    "--config.log_every_steps=5",
    "--config.checkpoint.every_steps=5",
)
MOMENTS = {"starting": 0.25, "training": 0.2, "saving": 0.45, "ending": 0.1}
"""What a run does when it is killed, and how often."""


class Kill(NamedTuple):
    moment: str
    tore: bool  # a checkpoint was being written


class Campaign(NamedTuple):
    runs: int
    kills: list[Kill]
    spoilt: list[str]  # the work folders of the runs that ended otherwise than uninterrupted


def uninterrupted(folder):
    """The result that every killed run must come to, and the seconds it takes to start."""
    began = time.monotonic()
    process = start(folder / "uninterrupted", *SETTINGS)
    assert wait_until(has_metrics(folder / "uninterrupted"), process)
    seconds = time.monotonic() - began
    end_of(process)
    return result(folder / "uninterrupted"), seconds


def campaign(folder, kills, rng, say=lambda line: None):
    """Starts runs and kills them until `kills` kills are done and every run has come to its end."""
    expected, start_seconds = uninterrupted(folder)
    done: list[Kill] = []
    spoilt: list[str] = []
    runs = 0
    while len(done) < kills:
        workdir = folder / str(runs)
        runs += 1
        while len(done) < kills and (last := _start_and_kill(workdir, rng, start_seconds)):
            done.append(last)
        if not (workdir / "summary.json").exists():
            end_of(start(workdir, *SETTINGS))
        if result(workdir) != expected or writes_checkpoint(workdir):
            spoilt.append(str(workdir))
        say(f"run {runs}: {len(done)} kills so far, {len(spoilt)} runs spoilt")
    return Campaign(runs, done, spoilt)


def _start_and_kill(workdir, rng, start_seconds):
    """The kill, or None if the run was over first."""
    began = time.time()
    process = start(workdir, *SETTINGS)
    moment = rng.choices(list(MOMENTS), MOMENTS.values())[0]
    _wait_for(moment, workdir, process, rng, start_seconds)
    if process.poll() is not None:
        end_of(process)
        return None
    kill(process)
    return Kill(moment, tore=writes_checkpoint(workdir, since=began))


def _wait_for(moment, workdir, process, rng, start_seconds):
    match moment:
        case "starting":
            time.sleep(rng.uniform(0, start_seconds))
        case "training":
            file = workdir / "metrics.jsonl"
            lines = file.read_bytes().count(b"\n") if file.exists() else 0
            wait_until(has_metrics(workdir, lines + rng.randint(1, 3)), process)
            time.sleep(rng.uniform(0, 0.2))
        case "saving":
            for _ in range(rng.randint(1, 3)):
                wait_until(lambda: not writes_checkpoint(workdir), process)
                wait_until(lambda: writes_checkpoint(workdir), process)
            time.sleep(rng.uniform(0, 0.02))
        case "ending":
            wait_until((workdir / "curves.png").exists, process)
            time.sleep(rng.uniform(0, 0.02))
