"""No room, or no right to write: one clear line, nothing lost, and on it goes when it is mended."""

import contextlib
import errno
import os
import resource
import shutil
import subprocess

import pytest

from tests.support.processes import (
    end_of,
    has_checkpoint,
    has_metrics,
    kill,
    result,
    run,
    start,
    wait_until,
)
from train.errors import UserError
from train.output import curves, files
from train.output.metrics import MetricsFile

SETTINGS = (
    "--config.num_steps=40",
    "--config.log_every_steps=2",
    "--config.checkpoint.every_steps=10",
)
CHECKPOINT_BYTES = 700_000


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    run(folder, *SETTINGS)
    return result(folder)


def good_checkpoint(folder):
    """The newest; it is there and stays there."""
    return max(int(file.name) for file in (folder / "checkpoints").iterdir() if file.name.isdigit())


def assert_one_line(error, folder):
    assert error.startswith("error: cannot "), error
    assert error.count("\n") == 1, error
    assert str(folder) in error
    assert "run the same command again" in error


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="the system has no prlimit")
def test_a_limit_on_the_size_of_files_stops_a_run_that_goes_on_without_it(uninterrupted, tmp_path):
    process = start(tmp_path, *SETTINGS)
    assert wait_until(has_checkpoint(tmp_path, 10), process)
    kill(process)
    limited = start(tmp_path, *SETTINGS)
    limit = CHECKPOINT_BYTES // 2
    resource.prlimit(limited.pid, resource.RLIMIT_FSIZE, (limit, limit))
    _, error = end_of(limited, status=2)
    assert_one_line(error, tmp_path / "checkpoints")
    good = good_checkpoint(tmp_path)
    assert good >= 10
    assert f"the last good checkpoint is {good}" in error
    assert f"resuming after step {good}" in run(tmp_path, *SETTINGS)
    assert result(tmp_path) == uninterrupted


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system of its own; skips where it is not permitted to make one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"mounting is not permitted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_and_then_one_that_is_read_only(uninterrupted, tmp_path):
    with small_disk(tmp_path / "disk", "8m") as disk:
        process = start(disk / "run", *SETTINGS)
        assert wait_until(has_checkpoint(disk / "run", 10), process)
        room = shutil.disk_usage(disk).free
        with contextlib.suppress(OSError):  # the run may be quicker to fill it
            (disk / "others").write_bytes(bytes(room - 300_000))
        _, error = end_of(process, status=2)
        assert_one_line(error, disk / "run")
        # TensorStore's message is long, and only its ends are printed.
        assert "o space left" in error or "os_error_code='28'" in error, error
        assert f"the last good checkpoint is {good_checkpoint(disk / 'run')}" in error
        (disk / "others").unlink()

        process = start(disk / "run", *SETTINGS)
        lines = (disk / "run" / "metrics.jsonl").read_bytes().count(b"\n")
        assert wait_until(has_metrics(disk / "run", lines + 1), process)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=False)
        # A file that is open for writing keeps the disk writable for that moment.
        while process.poll() is None and os.access(disk, os.W_OK):
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=False)
        _, error = end_of(process, status=2)
        assert_one_line(error, disk / "run")
        _, error = end_of(start(disk / "run", *SETTINGS), status=2)
        assert_one_line(error, disk / "run")
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert "resuming after step" in run(disk / "run", *SETTINGS)
        assert result(disk / "run") == uninterrupted


def no_room(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_line_of_metrics_that_does_not_fit(tmp_path, monkeypatch):
    file = MetricsFile(tmp_path / "metrics.jsonl", 0, writes=True)
    file.append(1, "train", loss=1.0)
    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(UserError, match=r"cannot write .*metrics.jsonl: No space left on device"):
        file.append(2, "train", loss=1.0)


def test_the_metrics_of_a_run_that_has_begun_must_be_there(tmp_path):
    with pytest.raises(UserError, match=r"metrics.jsonl is missing; restore it"):
        MetricsFile(tmp_path / "metrics.jsonl", 20, writes=True)
    assert list(tmp_path.iterdir()) == []


def test_a_torn_line_is_written_anew_after_a_resume(tmp_path):
    file = tmp_path / "metrics.jsonl"
    figures = dict.fromkeys(("epoch", "loss", "top1", "top5", "learning_rate"), 0.5)
    figures["gc_removed_fraction"] = 0.5
    MetricsFile(file, 0, writes=True).append(1, "train", **figures)
    whole = file.read_text()
    file.write_text(whole + whole.replace("1", "2", 1)[:-9])
    MetricsFile(file, 1, writes=True)
    assert file.read_text() == whole


def test_a_json_file_that_does_not_fit_leaves_the_old_one(tmp_path, monkeypatch):
    files.write_json(tmp_path / "summary.json", {"old": 1})
    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(UserError, match=r"cannot write .*summary.json: No space left on device"):
        files.write_json(tmp_path / "summary.json", {"new": 1})
    assert "old" in (tmp_path / "summary.json").read_text()


def test_curves_that_do_not_fit(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    (tmp_path / "curves.png").symlink_to("/dev/full")
    with (
        pytest.raises(UserError, match=r"cannot write .*curves.png: No space left on device"),
        files.explain_write_errors(tmp_path / "curves.png"),
    ):
        curves.draw_curves(tmp_path / "curves.png", [], "title")
