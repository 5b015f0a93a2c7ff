"""A small convolutional network on handwritten digits with gradient centralization: a first run.

    python -m train --config configs/digits_gc.py

Takes less than a minute on two CPU cores. Expect a test_top1 of 0.99. There are 360 test images, so
one image is 0.003.
"""

from train.config import default_config


def get_config():
    config = default_config()
    config.num_epochs = 40
    config.data.name = "digits"
    config.data.batch_size = 64
    config.data.mean = (0.305,)
    config.data.std = (0.376,)
    config.data.pad = 1
    config.model.name = "convnet"
    config.optimizer.name = "momentum"
    config.optimizer.learning_rate = 0.1
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "cosine"
    config.schedule.warmup = 0.05
    config.gc.mode = "all"
    config.eval.every_epochs = 5
    return config
