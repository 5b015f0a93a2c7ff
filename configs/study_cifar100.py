"""GC on CIFAR-100 with the authors' recipe and five optimizers: for GPUs, one run on each.

    python -m train.study --config configs/study_cifar100.py

The network is ResNet-18; `study_cifar100.py:resnet50` uses ResNet-50, or any other model. There are
60 runs of 200 epochs. Half of them choose among three learning rates; the middle one is the
authors'. With `--shard I/5`, each of five machines trains one optimizer.
"""

from configs import cifar100_gc
from train.studies.config import default_study


def get_config(model="resnet18"):
    base = cifar100_gc.get_config()
    base.model.name = model
    base.log_every_steps = 391  # one epoch
    config = default_study(base)
    config.seeds = (0, 1, 2)
    config.learning_rates.sgd = (0.03, 0.1, 0.3)
    config.learning_rates.momentum = (0.03, 0.1, 0.3)
    config.learning_rates.adagrad = (0.003, 0.01, 0.03)
    config.learning_rates.rmsprop = (0.0003, 0.001, 0.003)
    config.learning_rates.adam = (0.0003, 0.001, 0.003)
    config.tuning.validation_examples = 5000
    config.target_loss = 1.0
    return config
