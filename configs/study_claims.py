"""Claims about GC beyond accuracy, each tested by a study of its own.

    python -m train.study --config configs/study_claims.py:smoothness,digits
    python -m train.study --config configs/study_claims.py:smoothness,cifar100

The first argument is the claim. `smoothness`: norms, oscillation, and the loss along the updates,
for momentum and Adam. `attack`: the accuracy under projected gradient descent. `batch`: batch sizes
from 16 to 1024. `depth`: 8, 20 and 56 layers, with batch normalization and without. `norm`: other
normalization layers. `axes`: GC over the wrong axes.

On the digits, a study has eight pairs of runs for each comparison and takes minutes on two cores;
`depth` takes an hour, much of it compilation.
On CIFAR-100, it has five pairs of runs of the small ResNet, three epochs each, and takes one to
four hours.
"""

from configs import cifar100_small_gc, digits_gc
from train.config import parse_config_argument
from train.studies.config import default_study

PARTS = ("smoothness", "attack", "batch", "depth", "norm", "axes")
DATA = ("cifar100", "digits")


def get_config(argument=""):
    part, data = parse_config_argument(argument, part=PARTS, data=DATA)
    config = _digits() if data == "digits" else _cifar100()
    config.optimizers = ("momentum",)
    match part:
        case "smoothness":
            config.optimizers = ("momentum", "adam")
            config.landscape_examples = 256
        case "attack":
            config.base.adversary.update(eval_steps=10, epsilon=1 / 255, step_size=0.25 / 255)
            if data == "digits":  # images of 8x8 pixels need a stronger attack
                config.base.adversary.update(epsilon=16 / 255, step_size=4 / 255)
        case "batch":
            config.batch_sizes = (16, 128, 1024)
            config.learning_rates.momentum = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
        case "depth":  # without normalization, only small rates are stable
            config.learning_rates.momentum = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
            config.variants = {
                f"{name} {norm}": {"model": {"name": name, "norm": norm, "widen_factor": 1}}
                for name in ("resnet8", "resnet20", "resnet56")
                for norm in ("batch", "none")
            }
        case "norm":
            config.variants = {
                "batch": {},
                "group": {"model": {"norm": "group"}},
                "weight": {"model": {"norm": "weight"}},
                "standardized": {"model": {"norm": "group", "weight_standardization": True}},
                "none": {"model": {"norm": "none"}},
            }
        case "axes":
            config.gc = ("none", "all", "whole_tensor", "first_axis_out")
            config.learning_rates.momentum = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    return config


def _cifar100():
    base = cifar100_small_gc.get_config()
    base.num_epochs = 3
    config = default_study(base)
    config.learning_rates.momentum = (0.03, 0.1, 0.3, 1.0)
    config.learning_rates.adam = (0.001, 0.003, 0.01)
    config.tuning.validation_examples = 5000
    config.target_loss = 3.0
    config.timing.pairs, config.timing.steps = 5, 5
    return config


def _digits():
    base = digits_gc.get_config()
    base.num_epochs = 10
    base.log_every_steps = 10
    config = default_study(base)
    config.seeds = (0, 1, 2, 3, 4, 5, 6, 7)
    config.learning_rates.momentum = (0.03, 0.1, 0.3, 1.0)
    config.learning_rates.adam = (0.003, 0.01, 0.03, 0.1)
    config.tuning.validation_examples = 287
    config.tuning.seeds = (1000, 1001)
    config.target_loss = 0.3
    config.timing.pairs, config.timing.steps = 5, 20
    return config
