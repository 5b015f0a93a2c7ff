"""`python -m train --config configs/digits_gc.py`: trains, evaluates, reports."""

import signal

from train import cli
from train.runtime import huge_pages

USAGE = """\
usage: python -m train --config FILE [--workdir DIR] [--config.FIELD=VALUE ...]

Trains the model that FILE describes and writes config.json, metrics.jsonl, checkpoints/,
curves.png and summary.json into DIR (default: runs/NAME for configs/NAME.py).
Run again with the same folder, it resumes; another run needs another folder. A config file is
Python, and is run; FILE:ARGUMENT gives its get_config() an argument, as cifar100_gc.py:vgg11,adam.

  --config.gc.mode=none               the same training without gradient centralization
  --config.optimizer.name=adam        another optimizer
  --config.data.dir=DIR               where TFDS's data sets lie (or set TFDS_DATA_DIR)
  --config.num_steps=100              a run of so many steps
  --config.init_from=PATH             begins from a finished run, or a PyTorch ResNet's .safetensors
  train/config.py has every field, with a word on each

  --distributed                       one of several processes of a run, on a TPU pod, under Slurm
                                      or Kubernetes; elsewhere also --coordinator=HOST:PORT,
                                      --num_processes=N and --process_id=I

Exit status: 0 done; 2 a mistake, in one line on stderr; 75 stopped by SIGTERM or SIGINT, saved.
"""


def main(argv: list[str]) -> int:
    command = cli.parse(argv, USAGE)
    # JAX and Flax take seconds to import, which a typing error need not cost.
    from train.loop import train
    from train.runtime import cache, distributed

    if command.cluster:
        distributed.join(*command.cluster)
    cache.enable_compilation_cache()
    train(command.config, command.workdir)
    return 0


if __name__ == "__main__":
    huge_pages.enable_huge_pages()
    # Until the training takes signals over there is nothing to finish: SIGINT ends the process.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    cli.run(main)
