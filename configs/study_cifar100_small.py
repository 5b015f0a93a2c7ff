"""Does GC help on CIFAR-100? A small ResNet, five optimizers, eight seeds: 120 runs.

    python -m train.study --config configs/study_cifar100_small.py

Ten epochs each, some fourteen hours on two cores. A study that is stopped goes on with the same
command. Further parts, each in a folder of its own:

    python -m train.study --config configs/study_cifar100_small.py:decay
    python -m train.study --config configs/study_cifar100_small.py:axes

`decay`: momentum without weight decay. `axes`: momentum and Adam with GC of convolutions only, GC
of the update, and the axes of other implementations: the whole tensor, and all axes but the first.
"""

from configs import cifar100_small_gc
from train.config import parse_config_argument
from train.studies.config import default_study

PARTS = ("optimizers", "decay", "axes")


def get_config(argument=""):
    (part,) = parse_config_argument(argument, part=PARTS)
    base = cifar100_small_gc.get_config()
    base.log_every_steps = 100
    config = default_study(base)
    config.seeds = (0, 1, 2, 3, 4, 5, 6, 7)
    config.learning_rates.sgd = (0.3, 1.0, 3.0, 10.0)
    config.learning_rates.momentum = (0.1, 0.3, 1.0, 3.0)
    config.learning_rates.adagrad = (0.01, 0.03, 0.1, 0.3)
    config.learning_rates.rmsprop = (0.0003, 0.001, 0.003, 0.01)
    config.learning_rates.adam = (0.001, 0.003, 0.01, 0.03)
    config.tuning.validation_examples = 5000
    config.target_loss = 2.0
    config.timing.steps = 10
    if part == "decay":
        config.optimizers, config.weight_decays = ("momentum",), (0.0,)
    if part == "axes":
        config.optimizers = ("momentum", "adam")
        config.gc = ("none", "all", "conv", "all@update", "whole_tensor", "first_axis_out")
    return config
