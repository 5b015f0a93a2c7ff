"""ResNet-50 on Mini-ImageNet with gradient centralization: the recipe of the authors of GC.

    python -m train --config configs/mini_imagenet_gc.py --config.data.dir=DIR
    python -m train --config configs/mini_imagenet_gc.py:group --config.data.dir=DIR

The first command uses batch normalization over the whole batch, the second one group normalization.
`mini_imagenet_ws_gc.py` adds weight standardization.

Mini-ImageNet is 100 classes of ImageNet with 600 images each (Vinyals et al. 2016, arXiv
1606.04080). The paper divides the images of each class into a training and a test split. Put 500
images of each class in DIR/train/CLASS/ and 100 in DIR/test/CLASS/.

The recipe (Yong et al. 2020, arXiv 2004.01461): batch size 128, 100 epochs, momentum 0.9, L2 decay
1e-4, learning rate 0.1 divided by 10 every 30 epochs, random crops of 224 pixels, flips, GC of all
layers, as in the authors' script. For a GPU or a TPU. The authors' README shows curves without
numbers. We have not trained this config to the end.
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
