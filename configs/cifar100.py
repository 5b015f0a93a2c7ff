"""CIFAR-100 on ResNet-18 without gradient centralization: the baseline of `cifar100_gc`."""

from configs import cifar100_gc


def get_config():
    config = cifar100_gc.get_config()
    config.gc.mode = "none"
    return config
