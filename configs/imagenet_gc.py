"""ImageNet on ResNet-50 with gradient centralization: the recipe of the paper's authors.

Batch 256, 100 epochs, momentum 0.9, L2 1e-4, rate 0.1 divided by 10 every 30 epochs, crops of 224
pixels, flips; GC of the convolutions alone, as theirs. For several GPUs or TPU chips.

The authors' README (github.com/Yonghongwei/Gradient-Centralization) gives a top-1 error of 23.21 %,
and 23.71 % without GC, each of one run in PyTorch. This file has not been trained to its end by us.
"""

from train import config as configs


def get_config():
    config = configs.default()
    config.num_epochs = 100
    config.precision = "bfloat16"
    config.data.name = "imagenet2012"
    config.data.batch_size = 256
    config.data.image_size = 224
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    config.data.flip = True
    config.model.name = "resnet50"
    config.model.stem = "7x7"
    config.optimizer.name = "momentum"
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "step"
    config.schedule.step_epochs = 30.0
    config.schedule.step_factor = 0.1
    config.gc.mode = "conv"
    return config
