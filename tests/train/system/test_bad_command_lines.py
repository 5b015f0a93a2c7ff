"""A wrong command line gives one line on stderr, status 2, and writes nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT, names_only_phases
from train import cli
from train.__main__ import USAGE
from train.config import validate

# Warnings of libraries on the way to an error are not tested here.
pytestmark = pytest.mark.filterwarnings("ignore")


CONFIGS = ROOT / "configs"
FILE = CONFIGS / "digits_gc.py"
DIGITS = ("--config", FILE)
CLUSTER = (*DIGITS, "--distributed")

# Each entry: the command line, and parts of the error.
ERRORS = {
    "no config": ((), "--config is missing; for example --config configs/digits_gc.py"),
    "no file": (("--config",), "--config '' is not a file; see the folder configs/"),
    "an empty file name": (("--config=",), "--config '' is not a file"),
    "a missing file": (("--config", "configs/nothing.py"), "is not a file"),
    "a misspelled file": (("--config", CONFIGS / "digit_gc.py"), "configs/digits_gc.py?"),
    "a folder as config": (("--config", CONFIGS), "is not a file"),
    "a long file name": (("--config", "x" * 5000), "is not a file"),
    "two configs": ((*DIGITS, "--config", CONFIGS / "digits.py"), "is given 2 times; give it once"),
    "an argument for the config": (("--config", f"{FILE}:fast"), "no argument; leave out :'fast'"),
    "an unknown flag": ((*DIGITS, "--speed=3"), "Unknown command line flag 'speed'", "--help"),
    "a misspelled flag": ((*DIGITS, "--workdri=w"), "workdri", "Did you mean: workdir"),
    "the negation of a flag": ((*DIGITS, "--noconfig"), "noconfig"),
    "an unknown argument": ((*DIGITS, "fast"), "unknown argument 'fast'; see --help"),
    "an argument after --": ((*DIGITS, "--", "fast"), "unknown argument 'fast'"),
    "the help of absl": ((*DIGITS, "--helpfull"), "helpfull"),
    "a missing flag file": ((*DIGITS, "--flagfile=none"), "flagfile", "No such file"),
    "no work folder": ((*DIGITS, "--workdir"), "Missing value for flag --workdir"),
    "an empty work folder": ((*DIGITS, "--workdir="), "--workdir is empty; give it a folder"),
    "no value": ((*DIGITS, "--config.seed"), "Missing value for flag --config.seed"),
    "a misspelled field": (
        (*DIGITS, "--config.optimizer.nam=adam"),
        "config.optimizer.nam is not a field; did you mean optimizer.name?",
    ),
    "the short name of a field": ((*DIGITS, "--config.optimizer.lr=1"), "allowed: optimizer.b1, "),
    "a field without its group": ((*DIGITS, "--config.batch_size=1"), "did you mean data.batch_si"),
    "a misspelled group": ((*DIGITS, "--config.optimiser=x"), "did you mean optimizer?"),
    "an unknown field": ((*DIGITS, "--config.zzz=1"), "config.zzz is not a field; allowed: accumu"),
    "a field without name": ((*DIGITS, "--config.=1"), "config. is not a field"),
    "only dots": ((*DIGITS, "--config...=1"), "config... is not a field"),
    "a field below a field": ((*DIGITS, "--config.seed.x=1"), "config.seed.x is not a field"),
    "a group of fields": (
        (*DIGITS, "--config.gc=none"),
        "config.gc is a group, not a field; name one: gc.location, gc.",
    ),
    "a part of a tuple": ((*DIGITS, "--config.data.mean[0]=1"), "did you mean data.mean?"),
    "a long field name": ((*DIGITS, f"--config.{'x' * 5000}=1"), "is not a field; allowed"),
    "a word for an int": ((*DIGITS, "--config.num_steps=many"), "num_steps", "of type int"),
    "a float for an int": ((*DIGITS, "--config.seed=1.5"), "--config.seed=1.5", "of type int"),
    "infinity for an int": ((*DIGITS, "--config.seed=1e400"), "seed=1e400", "of type int"),
    "None for an int": ((*DIGITS, "--config.seed=None"), "seed=None", "of type int"),
    "an empty int": ((*DIGITS, "--config.seed="), "--config.seed=", "of type int"),
    "many digits": ((*DIGITS, "--config.seed=" + "9" * 5000), "config.seed=999", "of type int"),
    "a word for a float": ((*DIGITS, "--config.optimizer.b1=x"), "b1=x", "of type float"),
    "a word for a bool": ((*DIGITS, "--config.data.flip=maybe"), "flip=maybe", "of type bool"),
    "a value for a no-flag": ((*DIGITS, "--noconfig.data.flip=1"), "does not take an argument"),
    "an open bracket": ((*DIGITS, "--config.data.mean=(1,"), "mean=(1,", "of type tuple"),
    "a thousand brackets": ((*DIGITS, "--config.data.mean=" + "(" * 5000), "mean=("),
    "a cluster without its flag": ((*DIGITS, "--process_id=0"), "need --distributed"),
    "a coordinator without the flag": ((*DIGITS, "--coordinator=a:1"), "need --distributed"),
    "a coordinator without port": ((*CLUSTER, "--coordinator=host"), "must be HOST:PORT"),
    "a coordinator without host": ((*CLUSTER, "--coordinator=:80"), "must be HOST:PORT"),
    "an empty coordinator": ((*CLUSTER, "--coordinator="), "must be HOST:PORT"),
    "a port that is no number": ((*CLUSTER, "--coordinator=a:b"), "as localhost:1234"),
    "a port too high": ((*CLUSTER, "--coordinator=a:65536"), "as localhost:1234"),
    "a process id that is too large": (
        (*CLUSTER, "--coordinator=a:1", "--num_processes=2", "--process_id=2"),
        "--process_id=2 must be below --num_processes=2; the first process is 0",
    ),
    "a negative process id": ((*CLUSTER, "--process_id=-1"), "process_id=-1"),
    "zero processes": ((*CLUSTER, "--num_processes=0"), "num_processes=0"),
    "a word as number of processes": ((*CLUSTER, "--num_processes=many"), "num_processes=many"),
    "a word as bool flag": ((*DIGITS, "--distributed=maybe"), "distributed=maybe"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_user_error_is_one_line(case, rejected):
    arguments, *expected = ERRORS[case]
    error = rejected(*arguments)
    assert all(part in error for part in expected), error
    assert len(error) < 1000


@pytest.mark.slow
def test_command_prints_no_traceback(tmp_path):
    """Tests an error before JAX is imported, and one after the data set is looked for."""
    for override, expected in (
        ("gc.mode=half", "config.gc.mode='half' is not allowed; it must be one of none, all, conv"),
        ("data.name=blobs", "config.data.name='blobs' is not 'digits' or a TFDS data set"),
    ):
        done = run_command(tmp_path, f"--config.{override}")
        assert done.returncode == 2
        assert names_only_phases(done.stdout)
        assert done.stderr.startswith(f"error: {expected}")
        assert done.stderr.count("\n") == 1
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_missing_cluster_names_flags(tmp_path):
    done = run_command(tmp_path, "--distributed")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: --distributed found no cluster")
    assert "--coordinator=HOST:PORT --num_processes=N --process_id=I" in done.stderr
    assert done.stderr.count("\n") == 1


def run_command(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "train", *DIGITS, "--workdir", "w", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": "nowhere"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_help_shows_usage(exit_status, capsys):
    assert exit_status("--help") == 0
    assert "usage: python -m train --config FILE" in capsys.readouterr().out


VALID_OVERRIDES = (
    ("--config.gc.mode=none",),
    ("--config.optimizer.name=adam",),
    ("--config.data.dir=data",),
    ("--config.num_steps=100",),
    ("--config.num_steps", "100"),
    ("--config.num_steps=0x10",),
    ("--config.data.mean=(0.1, 0.2, 0.3)", "--config.data.std=(1, 1, 1)"),
    ("--config.eval.per_class", "--noconfig.optimizer.nesterov"),
    ("--config.optimizer.weight_decay=0", "--config.optimizer.eps=1"),
    ("--distributed", "--coordinator=[::1]:1234", "--num_processes=2", "--process_id=1"),
    ("--distributed",),
)


@pytest.mark.parametrize(
    "file", [path.name for path in CONFIGS.glob("*.py") if not path.name.startswith("study_")]
)
@pytest.mark.parametrize("overrides", VALID_OVERRIDES, ids=" ".join)
def test_valid_command_line_is_parsed(file, overrides):
    config = CONFIGS / file
    for argv in (["--config", str(config), *overrides], [*overrides, f"--config={config}"]):
        command = cli.parse(["train", *argv], USAGE)
        validate(command.config)
        assert command.config.is_locked
        assert command.workdir == Path("runs", config.stem)


def test_overrides_are_applied():
    argv = ["train", "--config", str(FILE), "--config.num_steps=7", "--config.data.flip"]
    argv += ["--config.data.mean=(1, 2.5)", "--config.data.name=a/b:1.0.0", "--workdir=w"]
    command = cli.parse(argv, str)
    config = command.config
    assert (config.num_steps, config.data.flip, config.data.mean) == (7, True, (1, 2.5))
    assert (config.data.name, command.workdir) == ("a/b:1.0.0", Path("w"))
    again = cli.parse(["train", "--config", str(FILE)], str).config
    assert (again.num_steps, again.data.flip) == (0, False)
