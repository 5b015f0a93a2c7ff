"""Claims about GC beyond accuracy, each tested with the small ResNet on CIFAR-100.

    python -m train.study --config configs/study_claims.py:smoothness
    python -m train.study --config configs/study_claims.py:attack
    python -m train.study --config configs/study_claims.py:batch
    python -m train.study --config configs/study_claims.py:depth
    python -m train.study --config configs/study_claims.py:norm

Each part has five pairs of runs of three epochs per comparison, and takes one to four hours on two
cores. `smoothness`: norms, and the loss along the updates, for momentum and Adam. `attack`: the
accuracy under projected gradient descent. `batch`: batch sizes from 16 to 1024. `depth`: 8, 20 and
56 layers, with batch normalization and without. `norm`: other normalization layers.
"""

from configs import cifar100_small_gc
from train.config import parse_config_argument
from train.studies.config import default_study

PARTS = ("smoothness", "attack", "batch", "depth", "norm")


def get_config(argument=""):
    (part,) = parse_config_argument(argument, part=PARTS)
    base = cifar100_small_gc.get_config()
    base.num_epochs = 3
    base.log_every_steps = 50
    config = default_study(base)
    config.optimizers = ("momentum",)
    config.learning_rates.momentum = (0.03, 0.1, 0.3, 1.0)
    config.learning_rates.adam = (0.001, 0.003, 0.01)
    config.tuning.validation_examples = 5000
    config.target_loss = 3.0
    config.timing.pairs, config.timing.steps = 5, 5
    match part:
        case "smoothness":
            config.optimizers = ("momentum", "adam")
            config.landscape_examples = 256
        case "attack":
            config.base.adversary.update(eval_steps=10, epsilon=1 / 255, step_size=0.25 / 255)
        case "batch":
            config.batch_sizes = (16, 128, 1024)
            config.learning_rates.momentum = (0.01, 0.03, 0.1, 0.3, 1.0)
        case "depth":
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
    return config
