"""Any value of any config field starts a run, or is rejected in one line."""

import contextlib
import io
import os
import sys
import tempfile
import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.support.processes import ROOT
from train import cli, experiment
from train.__main__ import main
from train.cli import EXIT_USER_ERROR
from train.config import default_config, flatten, validate
from train.config.types import MAX_INT
from train.data.order import epoch_end
from train.engine import plan

# Warnings of libraries on the way to an error are not tested here.
pytestmark = pytest.mark.filterwarnings("ignore")

CONFIG = ROOT / "configs" / "digits_gc.py"
FIELDS = flatten(default_config())
NAMES = sorted(FIELDS)
NUMBERS = sorted(name for name, value in FIELDS.items() if isinstance(value, int | float))

WORDS = """\
None True False true false nan inf -inf 1e400 -1e400 1e300 1e-300 1e-45 -0.0 0 1 -1 2 0.5 1e-3
0x10 0b1 1_000 1e3 1j 7 8 64 1000000 10000000 1000000000 1000000000000 2147483647 2147483648
-2147483649 18446744073709551616 0.9999999999 1.0 () (1,) (0.5,) (0.5,0.5) (None,) ((1,),)
[1] {} {'a':1} digits cifar100 mnist/x convnet resnet20 adam adamw adagrad rmsprop sgd momentum
cosine step constant none all conv gradient update skip stop float32 bfloat16 /dev/null .. / ~
%s \\ ' " $HOME ${data.name} {} , ; : -- --config ä ☃ 𝔘 \u202e \ufeff \x00 \x1b[31m \udcff ١٢٣
"""
UNUSUAL = [
    *WORDS.split(),
    "",
    " ",
    "a b",
    "a\nb",
    "9" * 400,
    "9" * 5000,
    "x" * 5000,
    "(" * 300,
    "1," * 3000,
]

values = (
    st.sampled_from(UNUSUAL)
    | st.integers().map(str)
    | st.integers(-(10**30), 10**30).map(str)
    | st.floats().map(repr)
    | st.lists(st.floats() | st.integers(), max_size=4).map(lambda items: str(tuple(items)))
    | st.text(max_size=20)
)
overrides = st.dictionaries(st.sampled_from(NAMES), values, min_size=1, max_size=3)


@contextlib.contextmanager
def captured_stderr():
    """Yield a `StringIO` that gets what is written to the file descriptor of stderr."""
    text = io.StringIO()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield text
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            text.write(file.read().decode())


def run_command(action, fields):
    """Run an action on a command line with overrides; return its result and stderr."""
    argv = ["train", "--config", str(CONFIG), *(f"--config.{k}={v}" for k, v in fields.items())]
    result = None

    def command(argv):
        nonlocal result
        result = action(argv)
        return 0

    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(io.StringIO()),
        captured_stderr() as error,
    ):
        patch.setattr(sys, "argv", argv)
        patch.setenv("TFDS_DATA_DIR", "/dev/null/nothing")
        with pytest.raises(SystemExit) as exit_:
            cli.run(command)
        status = exit_.value.code
    text = error.getvalue()
    if status == 0:
        return result, text
    assert status == EXIT_USER_ERROR, (fields, text)
    assert text.startswith("error: "), (fields, text)
    assert text.count("\n") == 1, (fields, text)
    assert len(text) < 2000, (fields, text)
    return None, text


def prepare(argv):
    command = cli.parse(argv, str)
    validate(command.config)
    return experiment.prepare(command.config)


@pytest.mark.slow
@hypothesis.given(fields=overrides)
@hypothesis.settings(
    deadline=None, max_examples=300, suppress_health_check=list(hypothesis.HealthCheck)
)
@hypothesis.example({"data.batch_size": "1000000000"})
@hypothesis.example({"data.pad": "1000000000"})
@hypothesis.example({"eval.batch_size": "1000000000000"})
@hypothesis.example({"eval.batch_size": "2147483647"})
@hypothesis.example({"num_epochs": "1000000000000"})
@hypothesis.example({"num_epochs": "10000000", "log_every_steps": "1"})
@hypothesis.example({"num_steps": "2147483647", "log_every_steps": "1", "schedule.name": "step"})
@hypothesis.example({"schedule.name": "step", "schedule.step_epochs": "1e-37"})
@hypothesis.example({"schedule.name": "cosine", "schedule.warmup": "0.9999999", "num_steps": "1"})
@hypothesis.example({"data.name": "0"})
@hypothesis.example({"data.name": "${data.name}", "data.dir": "/dev/null"})
def test_any_override_is_handled(fields):
    start = time.monotonic()
    run, error = run_command(prepare, fields)
    assert time.monotonic() - start < 30, fields
    if run is None:
        assert any(name in error for name in (*fields, "schedule.step_epochs")), (fields, error)
        return
    total = run.plan.total_steps
    assert 0 < total <= MAX_INT
    assert 0 < run.plan.next_event(0) <= total
    assert run.plan.next_event(total - 1) == total
    rates = [float(run.optimizer.schedule(step)) for step in (0, total // 2, total - 1)]
    assert np.isfinite(rates).all(), fields


# Overrides of runs that train, or stop because of non-finite values.
EXTREMES = {
    "largest values": {
        "eval.batch_size": "2147483647",
        "checkpoint.keep": "2147483647",
        "checkpoint.every_steps": "2147483647",
        "log_every_steps": "2147483647",
        "eval.every_epochs": "2147483647",
        "nan_limit": "2147483647",
        "seed": "2147483647",
        "data.pad": "8",
        "schedule.warmup": "0.999",
    },
    "smallest values": {
        "data.batch_size": "8",
        "eval.batch_size": "1",
        "log_every_steps": "1",
        "checkpoint.every_steps": "1",
        "checkpoint.keep": "1",
        "optimizer.name": "adamw",
        "optimizer.eps": "1e-37",
        "optimizer.b1": "0",
        "optimizer.b2": "0",
        "data.pad": "0",
    },
    "large rate": {"optimizer.learning_rate": "1e38", "schedule.name": "constant"},
    "large decay": {
        "optimizer.weight_decay": "1e38",
        "nan_policy": "skip",
        "log_every_steps": "1",
    },
    "small deviations": {"data.std": "(1e-37,)", "nan_policy": "skip", "nan_limit": "1"},
    "half precision": {"precision": "bfloat16", "optimizer.name": "adagrad", "gc.mode": "conv"},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", EXTREMES)
def test_extreme_values_train_or_stop(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fields = {"num_steps": "3"} | EXTREMES[case]
    _, error = run_command(main, fields)
    work = tmp_path / "runs" / "digits_gc"
    assert error == "" or "not finite at step" in error
    assert (work / "summary.json").exists() == (error == "")


@hypothesis.given(
    num_examples=st.integers(1, 60),
    batch_size=st.integers(1, 60),
    num_steps=st.integers(0, 99),
    num_epochs=st.integers(1, 8),
    eval_every=st.integers(1, 5),
    log_every=st.integers(1, 30),
    save_every=st.integers(0, 40),
)
@hypothesis.settings(deadline=None)
def test_plan_equals_list_of_steps(
    num_examples, batch_size, num_steps, num_epochs, eval_every, log_every, save_every
):
    hypothesis.assume(batch_size <= num_examples)
    config = default_config()
    config.data.batch_size = batch_size
    config.num_steps, config.num_epochs = num_steps, num_epochs
    config.eval.every_epochs, config.log_every_steps = eval_every, log_every
    config.checkpoint.every_steps = save_every
    actual = plan.make(config, num_examples)
    total = num_steps or epoch_end(num_epochs, batch_size, num_examples)
    assert actual.total_steps == total
    epochs = range(eval_every, total + 1, eval_every)
    evals = {epoch_end(epoch, batch_size, num_examples) for epoch in epochs} | {total}
    evals &= set(range(1, total + 1))
    logs = set(range(log_every, total, log_every)) | {total}
    saves = (set(range(save_every, total, save_every)) | {total}) if save_every else evals
    assert {step for step in range(total + 1) if actual.is_eval_step(step)} == evals
    assert {step for step in range(total + 1) if actual.is_log_step(step)} == logs
    assert {step for step in range(total + 1) if actual.is_save_step(step)} == saves
    for step in range(total):
        assert actual.next_pause(step) == min(stop for stop in evals | saves if stop > step)
        assert actual.next_event(step) == min(stop for stop in logs | evals | saves if stop > step)
