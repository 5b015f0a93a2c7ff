"""GC with and without normalization: a small network on the digits, normalized in six ways.

    python -m train.study --config configs/study_norms_digits.py

The variants are no normalization, batch, group and weight normalization, and weight
standardization alone and with group normalization. Each is trained with momentum, with and without
GC. The report has the accuracy, the steps to a training loss of 0.3 nats, the largest stable
learning rate, and the time of a step. There are 276 runs of 10 epochs: twelve minutes of processor
time.

Measured: normalization matters far more than GC (docs/studies/normalization.md). With weight
standardization, GC changes only the gradient of the last layer (docs/library/guide.md).
"""

from configs import digits_gc
from train.studies.config import default_study


def get_config():
    base = digits_gc.get_config()
    base.num_epochs = 10
    base.log_every_steps = 10
    config = default_study(base)
    config.variants = {
        "none": {"model": {"norm": "none"}},
        "batch": {"model": {"norm": "batch"}},
        "group": {"model": {"norm": "group"}},
        "weight": {"model": {"norm": "weight"}},
        "standardized": {"model": {"norm": "none", "weight_standardization": True}},
        "group+standardized": {"model": {"norm": "group", "weight_standardization": True}},
    }
    config.optimizers = ("momentum",)
    config.seeds = (0, 1, 2, 3, 4)
    config.learning_rates.momentum = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    config.tuning.seeds = (1000, 1001, 1002)
    config.tuning.validation_examples = 287
    config.target_loss = 0.3
    config.timing.pairs, config.timing.steps = 5, 20
    return config
