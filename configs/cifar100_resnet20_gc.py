"""CIFAR-100 on ResNet-20 (0.28 M parameters) with gradient centralization: a laptop's version.

One epoch by default, its rate warmed up and then lowered to 0 along a cosine.
"""

from configs import cifar100_gc


def get_config():
    config = cifar100_gc.get_config()
    config.num_epochs = 1
    config.model.name = "resnet20"
    config.schedule.name = "cosine"
    config.schedule.warmup = 0.2
    return config
