"""ResNet-50 on CUB-200-2011 with gradient centralization: 200 bird species.

    make data NAME=caltech_birds2011
    python -m train --config configs/cub200_gc.py --config.init_from=r50.safetensors

5,994 training images and 5,794 test images (Wah et al. 2011). If TFDS can no longer download them,
use images in folders, as described in `aircraft_gc.py`.

The recipe, and how to get the pretrained weights, are described in `fine_grained.py`. The authors
report an accuracy of 83.40 % with GC and 82.07 % without, one PyTorch run each. We have not trained
this config to the end.
"""

from configs import fine_grained


def get_config():
    config = fine_grained.get_config()
    config.data.name = "caltech_birds2011"
    return config
