"""CIFAR-100 on ResNet-18 with gradient centralization, in batches of any size: 1024 by default.

`cifar100_batch_gc.py:2` trains in batches of 2. The rate goes with the batch, 0.1 for each 128
images, and rises to it over 5 epochs where the batch is larger (Goyal et al. 2017, arXiv
1706.02677); all else is `cifar100_gc`. Batch normalization takes its statistics from the whole
batch, on all devices together, so a batch of 2 tests it as much as GC.

For a GPU or a TPU; the batch must divide over the devices. Not yet trained to its end by us.
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
