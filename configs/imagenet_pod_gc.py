"""ResNet-50 on ImageNet with gradient centralization in batches of 8192, for a TPU pod.

    python -m train --config configs/imagenet_pod_gc.py --distributed

The recipe follows Goyal et al. 2017 (arXiv 1706.02677): batch size 8192, 90 epochs, and a learning
rate of 3.2 (0.1 per 256 images) with a warm-up of 5 epochs. Without GC they reach a top-1 error of
23.74 %, and 23.60 % with a batch size of 256; with batches above 8192 their error rises. Two
details differ: the learning rate follows a cosine (Loshchilov and Hutter 2017, arXiv 1608.03983)
instead of steps, and the last scale of a block starts at 1 instead of 0.

We know of no published result for GC with batches of this size. We have not trained this config to
the end.
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
