"""CIFAR-100 on ResNet-18 with gradient centralization: the recipe of the paper's authors.

Batch 128, 200 epochs, momentum 0.9, L2 5e-4, rate 0.1 divided by 10 every 60 epochs, crops from
4 pixels of padding, flips. For a GPU or a TPU: on two CPU cores one epoch takes about 20 minutes.
"""

from train import config as configs


def get_config():
    config = configs.default()
    config.num_epochs = 200
    config.data.name = "cifar100"
    config.data.batch_size = 128
    config.data.mean = (0.507, 0.487, 0.441)
    config.data.std = (0.267, 0.256, 0.276)
    config.data.pad = 4
    config.data.flip = True
    config.model.name = "resnet18"
    config.optimizer.name = "momentum"
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "step"
    config.schedule.step_epochs = 60.0
    config.schedule.step_factor = 0.1
    config.gc.mode = "all"
    return config
