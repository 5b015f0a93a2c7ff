"""ImageNet with gradient centralization: the recipe of the paper's authors, on their four nets.

`imagenet_gc.py` is ResNet-50 with batch normalization; `imagenet_gc.py:NET,NORM` has the others,
NET being resnet50 or resnet101, NORM batch or group (32 groups).

Batch 256, 100 epochs, momentum 0.9, L2 1e-4, rate 0.1 divided by 10 every 30 epochs, crops of 224
pixels, flips; GC of the convolutions alone, as theirs. For several GPUs or TPU chips.

The authors' README (github.com/Yonghongwei/Gradient-Centralization) gives top-1 errors, each of one
run in PyTorch: ResNet-50 with batch normalization 23.21 % (23.71 % without GC), with group
normalization 23.53 % (24.50 %); ResNet-101 21.82 % (22.37 %) and 22.14 % (23.34 %). This file has
not been trained to its end by us.
"""

from train.config import default_config, parse_config_argument


def get_config(argument=""):
    net, norm = parse_config_argument(
        argument, net=("resnet50", "resnet101"), norm=("batch", "group")
    )
    config = default_config()
    config.num_epochs = 100
    config.precision = "bfloat16"
    config.data.name = "imagenet2012"
    config.data.batch_size = 256
    config.data.image_size = 224
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    config.data.flip = True
    config.model.name = net
    config.model.stem = "7x7"
    config.model.norm = norm
    config.optimizer.name = "momentum"
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "step"
    config.schedule.step_epochs = 30.0
    config.schedule.step_factor = 0.1
    config.gc.mode = "conv"
    return config
