"""ImageNet on ResNet-50 with gradient centralization in large batches, for a TPU pod.

Batch 8192 and rate 3.2, which is 0.1 for each 256 images, risen to over 5 epochs, 90 epochs: Goyal
et al. 2017 (arXiv 1706.02677), who reach a top-1 error of 23.74 % so, and 23.60 % with a batch of
256, both without GC; beyond 8192 their error rises. Two things are not theirs: the rate falls along
a cosine (Loshchilov and Hutter 2017, arXiv 1608.03983) and not by tenths, and the last scale of a
block begins at 1 and not at 0. We know of no published figure for GC with batches of this size, and
this file has not been trained to its end by us.
"""

from configs import imagenet_gc


def get_config():
    config = imagenet_gc.get_config()
    config.num_epochs = 90
    config.data.batch_size = 8192
    config.optimizer.learning_rate = 3.2
    config.schedule.name = "cosine"
    config.schedule.warmup = 5 / 90
    config.eval.batch_size = 8192
    return config
