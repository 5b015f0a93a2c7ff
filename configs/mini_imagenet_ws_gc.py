"""ResNet-50 on Mini-ImageNet with weight standardization and gradient centralization.

    python -m train --config configs/mini_imagenet_ws_gc.py --config.data.dir=DIR
    python -m train --config configs/mini_imagenet_ws_gc.py:batch --config.data.dir=DIR

The first command uses group normalization, as the authors of GC do with standardized weights; the
second one uses batch normalization. Data and recipe are those of `mini_imagenet_gc.py`. Weight
standardization is Qiao et al. 2019 (arXiv 1903.10520).

Expect little effect of GC: the gradient of a standardized kernel already has a fan-in mean of zero,
so GC only changes the gradient of the classifier. We have not trained this config to the end.
"""

from configs import mini_imagenet_gc
from train.config import parse_config_argument


def get_config(argument=""):
    (norm,) = parse_config_argument(argument, norm=("group", "batch"))
    config = mini_imagenet_gc.get_config(norm)
    config.model.weight_standardization = True
    return config
