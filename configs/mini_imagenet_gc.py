"""Mini-ImageNet on ResNet-50 with gradient centralization: the recipe of the paper's authors.

`mini_imagenet_gc.py` has batch normalization over the whole batch, `mini_imagenet_gc.py:group`
group normalization; `mini_imagenet_ws_gc.py` standardizes the weights too.

100 classes of ImageNet with 600 images each (Vinyals et al. 2016, arXiv 1606.04080), of which the
paper trains on some of each class and tests on the others. It is read from a folder, so put the
images into DIR/train/CLASS/ and DIR/test/CLASS/, 500 and 100 of each class:

    python -m train --config configs/mini_imagenet_gc.py --config.data.dir=DIR

Batch 128, 100 epochs, momentum 0.9, L2 1e-4, rate 0.1 divided by 10 every 30 epochs, crops of 224
pixels, flips; GC of all layers, as in their script. For a GPU or a TPU. The authors'
README shows curves and no figures; this file has not been trained to its end by us.
"""

from configs import imagenet_gc
from train.config import parse_config_argument


def get_config(argument=""):
    (norm,) = parse_config_argument(argument, norm=("batch", "group"))
    config = imagenet_gc.get_config(f"resnet50,{norm}")
    config.data.name = "folder"
    config.data.batch_size = 128
    config.gc.mode = "all"
    return config
