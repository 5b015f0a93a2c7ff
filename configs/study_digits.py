"""GC on handwritten digits with five optimizers and six seeds: some minutes on two cores.

    python -m train.study --config configs/study_digits.py

Measured: no difference (docs/studies/does-it-help.md). The network is small, and the task leaves
little to gain.
"""

from configs import digits_gc
from train.studies.config import default_study


def get_config():
    base = digits_gc.get_config()
    base.num_epochs = 15
    base.log_every_steps = 10
    config = default_study(base)
    config.seeds = (0, 1, 2, 3, 4, 5)
    config.learning_rates.sgd = (0.1, 0.3, 1.0, 3.0, 10.0)
    config.learning_rates.momentum = (0.03, 0.1, 0.3, 1.0, 3.0)
    config.learning_rates.adagrad = (0.01, 0.03, 0.1, 0.3, 1.0)
    config.learning_rates.rmsprop = (0.0003, 0.001, 0.003, 0.01, 0.03)
    config.learning_rates.adam = (0.001, 0.003, 0.01, 0.03, 0.1)
    config.tuning.seeds = (1000, 1001)
    config.tuning.validation_examples = 287
    config.target_loss = 0.1
    return config
