"""Mini-ImageNet on ResNet-50 with weight standardization and gradient centralization.

`mini_imagenet_ws_gc.py` has group normalization, as the net with standardized weights in the
scripts of the paper's authors; `mini_imagenet_ws_gc.py:batch` batch normalization. Data and recipe
are those of `mini_imagenet_gc.py`.

Expect GC to change little: the gradient of a standardized kernel has a fan-in mean of zero already,
so that only the classifier's is centred (docs/guide.md). This file has not been trained to its end
by us.
"""

from configs import mini_imagenet_gc
from train.config import parse_config_argument


def get_config(argument=""):
    (norm,) = parse_config_argument(argument, norm=("group", "batch"))
    config = mini_imagenet_gc.get_config(norm)
    config.model.weight_standardization = True
    return config
