"""ResNet-18 on CIFAR-100 without gradient centralization: the baseline of `cifar100_gc.py`.

    python -m train --config configs/cifar100.py

It takes the same arguments as `cifar100_gc.py`.
"""

from configs import cifar100_gc


def get_config(argument=""):
    config = cifar100_gc.get_config(argument)
    config.gc.mode = "none"
    return config
