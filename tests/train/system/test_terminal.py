"""What a run shows: each phase, the first loss, and control codes only where a person watches."""

import os
import re
import signal
import subprocess
import sys

import pytest

from tests.support import terminals
from tests.support.processes import ROOT, metrics, start, wait_for_exit

FLAGS = ("--config.num_steps=6", "--config.log_every_steps=6")
PHASES = [
    "loading JAX and Flax ...",
    "finding the devices ...",
    "loading the data set digits ...",
    "tracing convnet to find the input axes of its weights ...",
    "initializing the weights ...",
    "compiling the training step ...",
]
# A bar of a run, a bar of a study and a table, in a process of their own.
BARS = """
from rich.table import Table
from train.engine.plan import Plan
from train.output.progress import ProgressBar
from train.output.timer import Timer
from train.runtime.terminal import make_console
from train.studies.progress import StudyProgress
from train.tasks.classification import Classification
headline = Classification.headline
with ProgressBar(Plan(6, 1, 6, 1, 1, 0), 0, Timer(), "images", headline) as bar:
    bar.show_steps(1, {"loss": 2.0, "top1": 0.5})
    bar.log("a line")
with StudyProgress(2, 0, lambda: Table("a column")) as progress:
    progress.show_table()
make_console(soft_wrap=False).print(Table("a column"), style="bold")
"""
NOT_WATCHED = {
    "srun -u": {"stdin_is_terminal": False, "SLURM_PROCID": "0"},
    "docker run -t": {"stdin_is_terminal": False},
    "a dumb terminal": {"TERM": "dumb"},
    "an unknown terminal": {"TERM": "unknown"},
    "no type of terminal": {"TERM": None},
    "srun -u with colors": {"stdin_is_terminal": False, "FORCE_COLOR": "1"},
    "a dumb terminal with colors": {"TERM": "dumb", "TTY_COMPATIBLE": "1", "COLUMNS": None},
}
WATCHED = {
    "a terminal": {},
    "srun --pty": {"SLURM_PROCID": "0", "SLURM_STEP_ID": "0"},
    "a terminal without colors": {"NO_COLOR": "1"},
    "a terminal of unknown width": {"COLUMNS": None},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", NOT_WATCHED)
def test_log_has_no_control_codes(case):
    shown = terminals.output("-c", BARS, **NOT_WATCHED[case])
    assert "step 1/6  epoch 0.17  train loss 2.000  top-1 50.0 %" in shown
    assert "a column" in shown
    assert re.findall(r"[^\x20-\x7e\r\n─-╿]", shown) == []


@pytest.mark.slow
@pytest.mark.parametrize("case", WATCHED)
def test_watched_terminal_has_bars(case):
    shown = terminals.output("-c", BARS, **WATCHED[case])
    assert "loss 2.000  top-1 50.0 %" in shown
    assert "0.0/2 runs" in shown
    assert "\x1b[" in shown


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE", "CLICOLOR_FORCE"])
def test_file_has_no_control_codes(variable):
    environment = os.environ | {variable: "1", "TERM": "xterm"}
    shown = subprocess.check_output([sys.executable, "-c", BARS], cwd=ROOT, env=environment)
    assert b"a column" in shown
    assert b"\x1b" not in shown


@pytest.mark.slow
def test_phases_and_first_loss_are_lines(tmp_path):
    out, _ = wait_for_exit(start(tmp_path / "run", *FLAGS))
    lines = out.splitlines()
    assert [line for line in lines if line.endswith("...")] == [
        *PHASES,
        "compiling the evaluation, then testing ...",
    ]
    assert lines[: len(PHASES)] == PHASES, "before anything else"
    (first,) = [line for line in lines if line.startswith("step 1/6 ")]
    assert re.search(r"train loss \d\.\d{3}  top-1 .* [1-9][\d,]* images/s", first)
    assert [line["step"] for line in metrics(tmp_path / "run", "train")] == [6]


@pytest.mark.slow
def test_bar_has_loss_and_speed_of_first_step(tmp_path):
    command = ("-m", "train", "--config", "configs/digits_gc.py", "--workdir", tmp_path / "run")
    shown = terminals.output(*command, *FLAGS, COLUMNS="200")
    assert all(phase in shown for phase in PHASES)
    bar = re.compile(r"epoch 0\.04 .*loss \d\.\d{3}  top-1 \d.*?([\d,]+) images/s")
    assert int(bar.search(shown)[1].replace(",", "")) > 0
    assert [line["step"] for line in metrics(tmp_path / "run", "train")] == [6]


@pytest.mark.slow
def test_first_loss_does_not_wait_for_long_dispatch(tmp_path):
    flags = ("--config.num_steps=100000", "--config.log_every_steps=100000")
    process = start(tmp_path / "run", *flags, "--config.steps_per_dispatch=100000")
    for line in process.stdout:
        if line.startswith("step "):
            break
    assert line.startswith("step 1/100,000")
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
def test_phases_appear_at_once_in_a_pipe(tmp_path):
    """Without a flush, nothing appears before some kilobytes are written."""
    process = start(tmp_path / "run")
    assert process.stdout.readline() == f"{PHASES[0]}\n"
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
