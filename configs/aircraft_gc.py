r"""ResNet-50 on FGVC Aircraft with gradient centralization: 100 aircraft variants.

    python -m train --config configs/aircraft_gc.py --config.data.dir=DIR \
      --config.init_from=r50.safetensors

6,667 training images and 3,333 test images (Maji et al. 2013, arXiv 1306.5151). TFDS does not have
this data set. Put the images in folders: DIR/train/VARIANT/*.jpg and DIR/test/VARIANT/*.jpg.

The recipe, and how to get the pretrained weights, are described in `fine_grained.py`. The authors
report an accuracy of 87.77 % with GC and 86.62 % without, one PyTorch run each. We have not trained
this config to the end.
"""

from configs import fine_grained


def get_config():
    return fine_grained.get_config()
