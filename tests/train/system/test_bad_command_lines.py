"""What a person types wrong ends in one line on stderr, status 2, and nothing written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from train import cli
from train.__main__ import USAGE
from train.config import validate

# What libraries warn of on the way to an error is not what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore")


CONFIGS = ROOT / "configs"
FILE = CONFIGS / "digits_gc.py"
DIGITS = ("--config", FILE)
CLUSTER = (*DIGITS, "--distributed")

# What is typed, and what the error says.
MISTAKES = {
    "no config": ((), "--config is missing; for example --config configs/digits_gc.py"),
    "no file": (("--config",), "--config '.' is not a file; see the folder configs/"),
    "an empty file name": (("--config=",), "--config '.' is not a file"),
    "a file that is not there": (("--config", "configs/nothing.py"), "is not a file"),
    "a misspelt file": (("--config", CONFIGS / "digit_gc.py"), "configs/digits_gc.py?"),
    "a folder as config": (("--config", CONFIGS), "is not a file"),
    "an endless file name": (("--config", "x" * 5000), "is not a file"),
    "two configs": ((*DIGITS, "--config", CONFIGS / "digits.py"), "is given 2 times; give it once"),
    "an argument for the config": (("--config", f"{FILE}:fast"), "no argument; leave out :'fast'"),
    "an unknown flag": ((*DIGITS, "--speed=3"), "Unknown command line flag 'speed'", "--help"),
    "a misspelt flag": ((*DIGITS, "--workdri=w"), "workdri", "Did you mean: workdir"),
    "a flag's other name": ((*DIGITS, "--noconfig"), "noconfig"),
    "a stray argument": ((*DIGITS, "fast"), "unknown argument 'fast'; see --help"),
    "an argument after the end": ((*DIGITS, "--", "fast"), "unknown argument 'fast'"),
    "absl's help": ((*DIGITS, "--helpfull"), "helpfull"),
    "a flag file that is not there": ((*DIGITS, "--flagfile=none"), "flagfile", "No such file"),
    "no work folder": ((*DIGITS, "--workdir"), "Missing value for flag --workdir"),
    "an empty work folder": ((*DIGITS, "--workdir="), "--workdir is empty; give it a folder"),
    "no value": ((*DIGITS, "--config.seed"), "Missing value for flag --config.seed"),
    "a misspelt field": (
        (*DIGITS, "--config.optimizer.nam=adam"),
        "config.optimizer.nam is not a field; did you mean optimizer.name?",
    ),
    "a field's short name": ((*DIGITS, "--config.optimizer.lr=1"), "allowed: optimizer.b1, "),
    "a field without its group": ((*DIGITS, "--config.batch_size=1"), "did you mean data.batch_si"),
    "a misspelt group": ((*DIGITS, "--config.optimiser=x"), "did you mean optimizer?"),
    "an unknown field": ((*DIGITS, "--config.zzz=1"), "config.zzz is not a field; allowed: advers"),
    "a field without name": ((*DIGITS, "--config.=1"), "config. is not a field"),
    "only dots": ((*DIGITS, "--config...=1"), "config... is not a field"),
    "a field below a field": ((*DIGITS, "--config.seed.x=1"), "config.seed.x is not a field"),
    "a group of fields": (
        (*DIGITS, "--config.gc=none"),
        "config.gc is a group, not a field; name one: gc.location, gc.",
    ),
    "a part of a tuple": ((*DIGITS, "--config.data.mean[0]=1"), "did you mean data.mean?"),
    "an endless field": ((*DIGITS, f"--config.{'x' * 5000}=1"), "is not a field; allowed"),
    "a word for an int": ((*DIGITS, "--config.num_steps=many"), "num_steps", "of type int"),
    "a float for an int": ((*DIGITS, "--config.seed=1.5"), "--config.seed=1.5", "of type int"),
    "infinity for an int": ((*DIGITS, "--config.seed=1e400"), "seed=1e400", "of type int"),
    "None for an int": ((*DIGITS, "--config.seed=None"), "seed=None", "of type int"),
    "nothing for an int": ((*DIGITS, "--config.seed="), "--config.seed=", "of type int"),
    "endless digits": ((*DIGITS, "--config.seed=" + "9" * 5000), "config.seed=999", "of type int"),
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
    "a port that is none": ((*CLUSTER, "--coordinator=a:b"), "as localhost:1234"),
    "a port too high": ((*CLUSTER, "--coordinator=a:65536"), "as localhost:1234"),
    "a process too many": (
        (*CLUSTER, "--coordinator=a:1", "--num_processes=2", "--process_id=2"),
        "--process_id=2 must be below --num_processes=2; the first process is 0",
    ),
    "a negative process": ((*CLUSTER, "--process_id=-1"), "process_id=-1"),
    "no processes": ((*CLUSTER, "--num_processes=0"), "num_processes=0"),
    "many processes": ((*CLUSTER, "--num_processes=many"), "num_processes=many"),
    "perhaps distributed": ((*DIGITS, "--distributed=maybe"), "distributed=maybe"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_status_2(mistake, rejected):
    arguments, *expected = MISTAKES[mistake]
    error = rejected(*arguments)
    assert all(part in error for part in expected), error
    assert len(error) < 1000


def test_the_real_command_prints_no_traceback(tmp_path):
    """Twice: before JAX is imported, and with all that a data set needs."""
    for override, expected in (
        ("gc.mode=half", "config.gc.mode='half' is not allowed; it must be one of none, all, conv"),
        ("data.name=blobs", "config.data.name='blobs' is not 'digits' or a TFDS data set"),
    ):
        done = real_command(tmp_path, f"--config.{override}")
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith(f"error: {expected}")
        assert done.stderr.count("\n") == 1
        assert list(tmp_path.iterdir()) == []


def test_outside_a_cluster_distributed_says_which_flags_name_one(tmp_path):
    done = real_command(tmp_path, "--distributed")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: --distributed found no cluster")
    assert "--coordinator=HOST:PORT --num_processes=N --process_id=I" in done.stderr
    assert done.stderr.count("\n") == 1


def real_command(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "train", *DIGITS, "--workdir", "w", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": "nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_shows_the_usage(exit_status, capsys):
    assert exit_status("--help") == 0
    assert "usage: python -m train --config FILE" in capsys.readouterr().out


GOOD = (
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
@pytest.mark.parametrize("overrides", GOOD, ids=" ".join)
def test_what_the_readme_shows_goes_through(file, overrides):
    config = CONFIGS / file
    for argv in (["--config", str(config), *overrides], [*overrides, f"--config={config}"]):
        command = cli.parse(["train", *argv], USAGE)
        validate(command.config)
        assert command.config.is_locked
        assert command.workdir == Path("runs", config.stem)


def test_overrides_arrive():
    argv = ["train", "--config", str(FILE), "--config.num_steps=7", "--config.data.flip"]
    argv += ["--config.data.mean=(1, 2.5)", "--config.data.name=a/b:1.0.0", "--workdir=w"]
    command = cli.parse(argv, "")
    config = command.config
    assert (config.num_steps, config.data.flip, config.data.mean) == (7, True, (1, 2.5))
    assert (config.data.name, command.workdir) == ("a/b:1.0.0", Path("w"))
    again = cli.parse(["train", "--config", str(FILE)], "").config
    assert (again.num_steps, again.data.flip) == (0, False)
