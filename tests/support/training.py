"""Training runs in the process of the tests, which saves the start of a process."""

from tests.support.processes import ROOT
from train import cli
from train.loop import train


def train_here(workdir, *overrides, config="digits_gc"):
    """Train as `python -m train` does with a file in `configs/`; return the summary."""
    file = ROOT / "configs" / f"{config}.py"
    command = cli.parse(["train", "--config", str(file), *overrides], str)
    return train(command.config, workdir)
