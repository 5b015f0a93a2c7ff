"""The first 80 classes of CIFAR-100, three epochs without GC: a body to begin from.

Three to four minutes on two cores. `study_cifar100_transfer` begins from the folder that this
leaves, `runs/cifar100_pretrain`.
"""

from configs import cifar100_resnet20_gc


def get_config():
    config = cifar100_resnet20_gc.get_config()
    config.gc.mode = "none"
    config.num_epochs = 3
    config.data.classes = tuple(range(80))
    return config
