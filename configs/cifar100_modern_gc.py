"""ResNet-18 on CIFAR-100 with GC and the parts of a recipe of today; for a GPU or a TPU.

    python -m train --config configs/cifar100_modern_gc.py

Cosine schedule with warm-up, Nesterov momentum, label smoothing, TrivialAugment, mixup and CutMix,
gradient clipping, and a moving average of the weights. The values are common ones and were not
tuned here. It takes the arguments of `cifar100_gc.py`. See docs/trainer/recipes.md.
"""

from configs import cifar100_gc


def get_config(argument=""):
    config = cifar100_gc.get_config(argument)
    config.data.augment = "trivial"
    config.data.mixup = 0.2
    config.data.cutmix = 1.0
    config.loss.label_smoothing = 0.1
    config.optimizer.nesterov = True
    config.optimizer.clip_norm = 5.0
    config.optimizer.ema = 0.999
    config.schedule.name = "cosine"
    config.schedule.warmup = 0.05
    config.schedule.warmup_from = 0.01
    return config
