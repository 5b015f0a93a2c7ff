"""`python -m train --config configs/digits_gc.py`: trains, evaluates, reports."""

from train import command_line

USAGE = """\
usage: python -m train --config FILE [--workdir DIR] [--config.FIELD=VALUE ...]

Trains the model that FILE describes and writes config.json, metrics.jsonl, checkpoints/,
curves.png and summary.json into DIR (default: runs/NAME for configs/NAME.py).
Run again with the same folder, it resumes. A config file is Python, and is run.

  --config.gc.mode=none               the same training without gradient centralization
  --config.optimizer.name=adam        another optimizer
  --config.data.dir=DIR               where TFDS's data sets lie (or set TFDS_DATA_DIR)
  --config.num_steps=100              stop after so many steps
"""


def main(argv: list[str]) -> int:
    config, workdir = command_line.parse(argv, USAGE)
    from train.loop import (
        train,
    )  # imports JAX and Flax: seconds, which a typing error need not cost

    train(config, workdir)
    return 0


if __name__ == "__main__":
    command_line.run(main)
