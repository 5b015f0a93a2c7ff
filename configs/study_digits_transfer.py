"""Does a pretrained body help with ten labels a class, and does GC beside it? Minutes on two cores.

The digits 7 to 9, ten labelled examples of each, from scratch and from a body that has seen 0 to 6:
frozen, slow (a tenth of the last layer's rate) and whole (at the same rate), each with GC and
without. It needs the run that it begins from:

    python -m train --config configs/digits_pretrain.py
    python -m train.study --config configs/study_digits_transfer.py

Rates are chosen on 12 of the 30 labels, which is little. Expect a slow or whole body to beat
scratch on this draw of labels, and none to do so over several (docs/transfer.md;
--config.base.data.train_draw=1, with a --workdir of its own, draws others).
"""

from configs import digits_transfer_gc
from train.studies.config import default_study


def get_config():
    base = digits_transfer_gc.get_config()
    source, base.init_from = base.init_from, ""
    base.optimizer.body_lr_scale = 1.0
    base.log_every_steps = 10
    config = default_study(base)
    config.variants = {
        "scratch": {"init_from": ""},
        "frozen": {"init_from": source, "optimizer": {"body_lr_scale": 0.0}},
        "slow": {"init_from": source, "optimizer": {"body_lr_scale": 0.1}},
        "whole": {"init_from": source},
    }
    config.baseline = "scratch"
    config.optimizers = ("momentum",)
    config.seeds = tuple(range(12))
    config.learning_rates.momentum = (0.01, 0.03, 0.1, 0.3)
    config.tuning.seeds = (1000, 1001, 1002)
    config.tuning.validation_examples = 12
    config.target_loss = 0.1
    return config
