"""ResNet-18 on CIFAR-100 with gradient centralization, in batches of any size.

    python -m train --config configs/cifar100_batch_gc.py       # batches of 1024
    python -m train --config configs/cifar100_batch_gc.py:2     # batches of 2

The learning rate is proportional to the batch size: 0.1 per 128 images. For batches above 128 it is
warmed up over 5 epochs (Goyal et al. 2017, arXiv 1706.02677). Everything else is as in
`cifar100_gc.py`. Batch normalization uses the statistics of the whole batch over all devices, so a
batch of 2 tests batch normalization as much as GC.

For a GPU or a TPU. The batch size must be divisible by the number of devices. We have not trained
this config to the end.
"""

from configs import cifar100_gc


def get_config(batch_size="1024"):
    config = cifar100_gc.get_config()
    factor = int(batch_size) / config.data.batch_size
    config.data.batch_size = int(batch_size)
    config.optimizer.learning_rate *= factor
    if factor > 1:
        config.schedule.warmup = 5 / config.num_epochs
    return config
