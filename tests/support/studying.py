"""Studies that take seconds, and the processes that run them."""

import itertools
import json
import os
import subprocess
import sys

from configs import digits_gc
from tests.support.processes import ROOT
from train.studies.config import default_study
from train.studies.results import TIMES

CONFIG = """
from tests.support import studying
def get_config():
  return studying.tiny(runs_at_once=0)
"""

SMALL_CONFIG = CONFIG.replace("tiny(", "tiny(seeds=(0,), ")  # six runs, a timing
SMALLEST_CONFIG = SMALL_CONFIG.replace("tiny(", "tiny(learning_rates={'momentum': (0.03,)}, ")


def tiny(**fields):
    """Return a study of one optimizer, two rates, three seeds: ten runs of twelve steps."""
    base = digits_gc.get_config()
    base.num_steps = 12
    base.data.batch_size = 16
    base.log_every_steps = 4
    config = default_study(base)
    config.optimizers = ("momentum",)
    config.seeds = (0, 1, 2)
    config.learning_rates.momentum = (0.01, 0.03)
    config.tuning.seeds = (1000,)
    config.tuning.validation_examples = 287
    config.target_loss = 1.5
    config.timing.pairs, config.timing.steps = 3, 4
    config.runs_at_once = 2  # tests have eight devices, and compiling for all takes longer
    config.update(fields)
    return config


def start(folder, *arguments, config):
    """Start `python -m train.study` on two CPU devices."""
    command = [sys.executable, "-m", "train.study", "--config", str(config)]
    environment = {"JAX_NUM_CPU_DEVICES": "2"}
    return subprocess.Popen(
        [*command, "--workdir", str(folder), *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def results_of(folder, pattern="results*.jsonl"):
    """Return the results of all shards; how many runs share a program does not matter."""
    return {
        key: {name: value for name, value in line.items() if name != "together"}
        for key, line in lines(folder, pattern).items()
    }


def lines(folder, pattern="results.jsonl"):
    """Return the lines of the runs by key, without the fields that depend on time."""
    found = {}
    texts = [file.read_text().splitlines() for file in sorted(folder.glob(pattern))]
    for line in map(json.loads, itertools.chain(*texts)):
        assert line["key"] not in found, "a run was made twice"
        found[line["key"]] = {name: line[name] for name in line.keys() - set(TIMES)}
    return found
