"""ResNet-50 on Stanford Dogs with gradient centralization: 120 dog breeds.

    make data NAME=stanford_dogs
    python -m train --config configs/dogs_gc.py --config.init_from=r50.safetensors

12,000 training images and 8,580 test images (Khosla et al. 2011). If TFDS can no longer download
them, use images in folders, as described in `aircraft_gc.py`.

The recipe, and how to get the pretrained weights, are described in `fine_grained.py`. The authors
report an accuracy of 78.23 % with GC and 76.16 % without, one PyTorch run each. We have not trained
this config to the end.
"""

from configs import fine_grained


def get_config():
    config = fine_grained.get_config()
    config.data.name = "stanford_dogs"
    return config
