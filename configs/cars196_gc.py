"""ResNet-50 on Stanford Cars with gradient centralization: 196 car models.

    make data NAME=cars196
    python -m train --config configs/cars196_gc.py --config.init_from=r50.safetensors

8,144 training images and 8,041 test images (Krause et al. 2013). If TFDS can no longer download
them, use images in folders, as described in `aircraft_gc.py`.

The recipe, and how to get the pretrained weights, are described in `fine_grained.py`. The authors
report an accuracy of 90.03 % with GC and 88.66 % without, one PyTorch run each. We have not trained
this config to the end.
"""

from configs import fine_grained


def get_config():
    config = fine_grained.get_config()
    config.data.name = "cars196"
    return config
