"""Stream batches until SIGINT: `python -m tests.support.streaming ROOT WORKERS`.

For each batch, the process prints a line with the process ids of its workers. It stops three
batches after SIGINT.
"""

import multiprocessing
import signal

from tests.support.processes import ROOT
from train import cli
from train.config import default_config
from train.data.streaming import pipeline


def config_of(root, **fields):
    """Return a config of 8x8 crops of the `imagenet2012` in `root`."""
    config = default_config()
    config.data.update(
        name="imagenet2012",
        dir=str(root),
        batch_size=64,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        flip=True,
        image_size=8,
    )
    config.data.update(fields)
    return config


def command(root, workers):
    """Return the arguments of Python, and the folder to run in."""
    return ["-m", "tests.support.streaming", str(root), str(workers)], ROOT


def main(argv):
    remaining = []
    signal.signal(signal.SIGINT, lambda *_: remaining.extend(range(3)))
    config = config_of(argv[1], workers=int(argv[2]))
    with pipeline.open_dataset(config, 0, 1).train_batches(0) as batches:
        for batch in batches:
            print(*[child.pid for child in multiprocessing.active_children()], flush=True)
            assert batch.mask.all()
            if remaining and remaining.pop() == 0:
                return 0
    raise AssertionError("the batches must not end")


if __name__ == "__main__":
    cli.run(main)
