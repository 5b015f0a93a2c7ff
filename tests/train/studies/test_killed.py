"""A study that is killed or stopped."""

import random
import signal
import time

import pytest

from tests.support.processes import kill, wait_for_exit, wait_until
from tests.support.studying import CONFIG, lines, start
from train.studies import results

KILLS = 2


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "study_tiny.py"
    file.write_text(CONFIG)
    return file


def has_lines(folder, count):
    file = folder / "results.jsonl"
    return lambda: file.exists() and file.read_bytes().count(b"\n") >= count


@pytest.mark.slow
def test_killed_study_gives_the_same_results(tmp_path, config):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    wait_for_exit(start(whole, config=config))
    rng = random.Random(0)
    num_lines = 0
    for _ in range(KILLS):
        process = start(killed, config=config)
        # Kill between two writes, during a write, or in the runs after it.
        wait_until(has_lines(killed, num_lines + rng.randint(1, 3)), process)
        time.sleep(rng.uniform(0, 0.2))
        kill(process)
        num_lines = (killed / "results.jsonl").read_bytes().count(b"\n")
    wait_for_exit(start(killed, config=config))
    assert lines(killed) == lines(whole)
    assert (killed / "report.html").exists()


@pytest.mark.slow
def test_incomplete_line_is_made_again(tmp_path, config):
    folder = tmp_path / "study"
    wait_for_exit(start(folder, config=config))
    before = lines(folder)
    content = (folder / "results.jsonl").read_bytes()
    (folder / "results.jsonl").write_bytes(content[:-40])
    wait_for_exit(start(folder, config=config))
    assert lines(folder) == before


@pytest.mark.slow
def test_signal_stops_between_dispatches(tmp_path, config):
    process = start(tmp_path / "study", config=config)
    wait_until(has_lines(tmp_path / "study", 2), process)
    process.send_signal(signal.SIGTERM)
    _, error = wait_for_exit(process, status=75)
    assert "finished runs are saved; run the same command again" in error


def test_damaged_line_is_rejected(tmp_path):
    (tmp_path / "results.jsonl").write_text('{"key": 3}\n')
    with pytest.raises(results.UserError, match=r"line 1 of .* is damaged; remove that line"):
        results.Results(tmp_path, None)
