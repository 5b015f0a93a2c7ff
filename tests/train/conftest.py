"""How a mistake is made in-process, which saves the seconds that a process takes to start."""

import sys

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from train.__main__ import main
from train.cli import run


@pytest.fixture
def status_of(tmp_path, monkeypatch):
    """Runs a command line in an empty folder without data sets; returns its exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))

    def status_of(*arguments, command=main):
        monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            run(command)
        return exit_.value.code

    return status_of


@pytest.fixture
def refusal(status_of, tmp_path, capfd):
    """Runs a command line that must end in one line on stderr and change no file: returns it."""

    def refusal(*arguments, command=main):
        before = contents(tmp_path)
        status = status_of(*arguments, command=command)
        out, error = capfd.readouterr()
        assert (status, out) == (2, ""), error
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert error.endswith("\n")
        assert contents(tmp_path) == before
        return error

    return refusal


def contents(folder):
    return {
        path: path.read_bytes() if path.is_file() else path.lstat().st_mode
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="module")
def programs_are_kept(tmp_path_factory):
    """For files whose runs compile the same few programs, in this process."""
    kept = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("programs")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in kept}
    for name, value in kept.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
