"""Pretrained weights and GC on three digits with ten labels each: minutes on two cores.

The digits 7 to 9 are learned from ten labeled examples of each: from scratch, and from a body
pretrained on 0 to 6, which is frozen, slow (a tenth of the last layer's learning rate) or whole
(the same rate). Each is trained with and without GC. The study needs the pretrained run:

    python -m train --config configs/digits_pretrain.py
    python -m train.study --config configs/study_digits_transfer.py

Rates are chosen on only 12 of the 30 labels. Measured: on this draw of labels a slow or whole body
is better than scratch, but not over several draws (docs/studies/transfer.md).
--config.base.data.train_draw=1, with another --workdir, draws other labels.
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
