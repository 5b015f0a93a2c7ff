"""The lock of a work folder, also where a file system restricts locks."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from tests.support.processes import ROOT
from train.config import default_config
from train.data.dataset import Signature
from train.errors import UserError
from train.output.files import LOCK_FILE, lock
from train.output.workdir import WorkDir
from train.studies.design import Shard
from train.studies.results import Results

HOLD = """
import sys, time
from pathlib import Path
from train.output.files import lock
descriptor = lock(Path(sys.argv[1]))
print("locked", flush=True)
time.sleep(600)
"""


@pytest.fixture
def hold(tmp_path):
    """A process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / LOCK_FILE)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


def test_other_process_is_kept_out_until_it_ends(hold, tmp_path):
    with pytest.raises(UserError, match=f"another run is working in {tmp_path}"):
        lock(tmp_path / LOCK_FILE)
    hold.kill()
    hold.wait()
    os.close(lock(tmp_path / LOCK_FILE))


def test_shared_locks_keep_out_exclusive_ones(tmp_path):
    file = tmp_path / LOCK_FILE
    descriptors = [lock(file, shared=True), lock(file, shared=True)]
    with pytest.raises(UserError, match="another run"):
        lock(file)
    for descriptor in descriptors:
        os.close(descriptor)
    descriptors = [lock(file)]
    with pytest.raises(UserError, match="another run"):
        lock(file, shared=True)
    os.close(descriptors[0])


@pytest.mark.parametrize("shard", [None, Shard(1, 2), Shard(2, 2)])
def test_study_locks_files_that_it_may_write(shard, tmp_path, monkeypatch):
    """NFSv4 emulates flock() by record locks, which need a file opened for what they allow."""
    flock = fcntl.flock

    def nfs_flock(descriptor, operation):
        mode = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
        if operation & fcntl.LOCK_EX and mode == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", nfs_flock)
    with Results(tmp_path / "study", shard).acquire({}):
        assert (tmp_path / "study" / "config.json").exists()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_file_system_without_locks_gives_a_warning(code, tmp_path, monkeypatch, capsys):
    def no_flock(descriptor, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", no_flock)
    os.close(lock(tmp_path / LOCK_FILE))
    warning = capsys.readouterr().err
    assert warning.startswith(f"warning: the file system of {tmp_path} has no locks")
    assert os.strerror(code) in warning
    assert warning.count("\n") == 1


@pytest.mark.parametrize("name", [LOCK_FILE, ".DS_Store", ".config.json.partial", ".nfs0001"])
def test_hidden_files_are_no_foreign_folder(name, tmp_path):
    (tmp_path / name).touch()
    with Results(tmp_path, None).acquire({}):
        pass
    workdir = WorkDir(tmp_path / "run", default_config())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).touch()
    workdir.acquire({}, Signature(10, (8, 8, 1)))
    workdir.release()
    assert (tmp_path / "run" / "config.json").exists()
