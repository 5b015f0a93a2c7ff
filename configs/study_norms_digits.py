"""Does GC help with and without normalization? A small net on the digits, normalized in six ways.

No normalization, batch, group and weight normalization, and weight standardization without another
and with group normalization; each with GC and without, momentum. The report has for each the
accuracy, the steps to a training loss of 0.3 nats, the largest learning rate that was stable, and
the milliseconds of a step. 276 runs of 10 epochs: twelve minutes of processor time.

Expect normalization to matter far more than GC (docs/does-it-help.md). Beside weight
standardization GC centres the classifier's gradient alone (docs/guide.md).
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
