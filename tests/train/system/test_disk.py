"""A full or read-only disk: one clear line, no data lost, and the run resumes afterwards."""

import contextlib
import errno
import os
import resource
import shutil
import subprocess

import pytest

from tests.support.processes import (
    SETTINGS,
    count_metrics,
    has_checkpoint,
    has_metrics,
    kill,
    result,
    run,
    saved_steps,
    start,
    wait_for_exit,
    wait_until,
)
from train.errors import UserError
from train.output import curves, files
from train.output.metrics import MetricsFile
from train.tasks.classification import Classification

NAMES = ("loss", "top1")
FLAGS = (*SETTINGS, "--config.checkpoint.every_steps=10")
CHECKPOINT_BYTES = 700_000


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Return the result of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    run(workdir, *FLAGS)
    return result(workdir)


def check_error(error, folder):
    assert error.startswith("error: cannot "), error
    assert error.count("\n") == 1, error
    assert str(folder) in error
    assert "run the same command again" in error


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="the system has no prlimit")
def test_run_resumes_after_file_size_limit(uninterrupted, tmp_path):
    process = start(tmp_path, *FLAGS)
    assert wait_until(has_checkpoint(tmp_path, 10), process)
    kill(process)
    process = start(tmp_path, *FLAGS)
    limit = CHECKPOINT_BYTES // 2
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    _, error = wait_for_exit(process, status=2)
    check_error(error, tmp_path / "checkpoints")
    step = saved_steps(tmp_path)[-1]
    assert step >= 10
    assert f"the last good checkpoint is {step}" in error
    assert f"resuming after step {step}" in run(tmp_path, *FLAGS)
    assert result(tmp_path) == uninterrupted


@contextlib.contextmanager
def small_disk(folder, size):
    """Mount a small file system, or skip the test where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False, encoding="utf-8")
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"mount is not allowed: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_resume_after_full_disk(uninterrupted, tmp_path):
    with small_disk(tmp_path / "disk", "8m") as disk:
        workdir = disk / "run"
        process = start(workdir, *FLAGS)
        assert wait_until(has_checkpoint(workdir, 10), process)
        free = shutil.disk_usage(disk).free
        with contextlib.suppress(OSError):  # the run can fill the disk first
            (disk / "others").write_bytes(bytes(free - 300_000))
        _, error = wait_for_exit(process, status=2)
        check_error(error, workdir)
        # TensorStore's message is long, and only its ends are printed.
        assert "o space left" in error or "os_error_code='28'" in error, error
        assert f"the last good checkpoint is {saved_steps(workdir)[-1]}" in error
        (disk / "others").unlink()

        # A file system cannot become read-only while the lock file of a run is open for writing.
        process = start(workdir, *FLAGS)
        assert wait_until(has_metrics(workdir, count_metrics(workdir) + 1), process)
        kill(process)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        _, error = wait_for_exit(start(workdir, *FLAGS), status=2)
        assert f"cannot write to the work folder {workdir}: Read-only file system; fix it" in error
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert "resuming after step" in run(workdir, *FLAGS)
        assert result(workdir) == uninterrupted


def raise_disk_full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_metrics_on_full_disk(tmp_path, monkeypatch):
    file = MetricsFile(tmp_path / "metrics.jsonl", NAMES, 0, writes=True)
    file.append(1, "train", loss=1.0)
    monkeypatch.setattr(os, "fsync", raise_disk_full)
    with pytest.raises(UserError, match=r"cannot write .*metrics.jsonl: No space left on device"):
        file.append(2, "train", loss=1.0)


def test_missing_metrics_are_rejected(tmp_path):
    with pytest.raises(UserError, match=r"metrics.jsonl is missing; restore it"):
        MetricsFile(tmp_path / "metrics.jsonl", NAMES, 20, writes=True)
    assert list(tmp_path.iterdir()) == []


def test_partial_line_is_rewritten(tmp_path):
    file = tmp_path / "metrics.jsonl"
    values = dict.fromkeys(("epoch", "loss", "top1", "top5", "learning_rate"), 0.5)
    values["gc_removed_fraction"] = 0.5
    MetricsFile(file, NAMES, 0, writes=True).append(1, "train", **values)
    complete = file.read_text()
    file.write_text(complete + complete.replace("1", "2", 1)[:-9])
    MetricsFile(file, NAMES, 1, writes=True)
    assert file.read_text() == complete


def test_full_disk_keeps_old_json(tmp_path, monkeypatch):
    files.write_json(tmp_path / "summary.json", {"old": 1})
    monkeypatch.setattr(os, "fsync", raise_disk_full)
    with pytest.raises(UserError, match=r"cannot write .*summary.json: No space left on device"):
        files.write_json(tmp_path / "summary.json", {"new": 1})
    assert "old" in (tmp_path / "summary.json").read_text()


def test_curves_on_full_disk(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    (tmp_path / "curves.png").symlink_to("/dev/full")
    with (
        pytest.raises(UserError, match=r"cannot write .*curves.png: No space left on device"),
        files.explain_write_errors(tmp_path / "curves.png"),
    ):
        curves.draw_curves([tmp_path / "curves.png"], [], "title", Classification.headline)
