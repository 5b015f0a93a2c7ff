"""GC for ResNet-20 on CIFAR-100, with momentum and Adam: for a laptop.

    python -m train.study --config configs/study_cifar100_resnet20.py

There are 24 runs of 10 epochs; half of them choose learning rates. At 500 images per second they
take 7 hours.
"""

from configs import cifar100_resnet20_gc
from train.studies.config import default_study


def get_config():
    base = cifar100_resnet20_gc.get_config()
    base.num_epochs = 10
    base.log_every_steps = 100
    config = default_study(base)
    config.optimizers = ("momentum", "adam")
    config.seeds = (0, 1, 2)
    config.learning_rates.momentum = (0.03, 0.1, 0.3)
    config.learning_rates.adam = (0.001, 0.003, 0.01)
    config.tuning.validation_examples = 5000
    config.target_loss = 2.0
    config.timing.steps = 5
    # One run at a time, because the convolutions of one ResNet use all cores.
    config.runs_at_once = 1
    return config
