"""ResNet-20 on the first 80 classes of CIFAR-100 without GC: pretrained weights for other runs.

    python -m train --config configs/cifar100_pretrain.py

Three epochs take three to four minutes on two CPU cores. `study_cifar100_transfer.py` starts from
its work folder, `runs/cifar100_pretrain`.
"""

from configs import cifar100_resnet20_gc


def get_config():
    config = cifar100_resnet20_gc.get_config()
    config.gc.mode = "none"
    config.num_epochs = 3
    config.data.classes = tuple(range(80))
    return config
