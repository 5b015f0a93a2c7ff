"""CIFAR-100 without gradient centralization: the baseline of `cifar100_gc`, with its arguments."""

from configs import cifar100_gc


def get_config(argument=""):
    config = cifar100_gc.get_config(argument)
    config.gc.mode = "none"
    return config
