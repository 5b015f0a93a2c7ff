"""ResNet-20 (0.28 M parameters) on CIFAR-100 with gradient centralization: a version for laptops.

    python -m train --config configs/cifar100_resnet20_gc.py

One epoch by default, with warm-up and a cosine schedule that ends at a learning rate of 0.
Everything else is as in `cifar100_gc.py`.
"""

from configs import cifar100_gc


def get_config():
    config = cifar100_gc.get_config()
    config.num_epochs = 1
    config.model.name = "resnet20"
    config.schedule.name = "cosine"
    config.schedule.warmup = 0.2
    return config
