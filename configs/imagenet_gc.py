"""ResNet-50 on ImageNet with gradient centralization: the recipe of the authors of GC.

    python -m train --config configs/imagenet_gc.py
    python -m train --config configs/imagenet_gc.py:resnet101,group

The argument selects a model (resnet50 or resnet101), a normalization (batch, or group with 32
groups) or both.

The recipe (Yong et al. 2020, arXiv 2004.01461): batch size 256, 100 epochs, momentum 0.9, L2 decay
1e-4, learning rate 0.1 divided by 10 every 30 epochs, random crops of 224 pixels, flips, GC of
convolutions only. For several GPUs or TPU chips.

Top-1 errors in the authors' README (github.com/Yonghongwei/Gradient-Centralization), one PyTorch
run each:

  model       normalization   with GC   without
  resnet50    batch           23.21 %   23.71 %
  resnet50    group           23.53 %   24.50 %
  resnet101   batch           21.82 %   22.37 %
  resnet101   group           22.14 %   23.34 %

We have not trained this config to the end.
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
