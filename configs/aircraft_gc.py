"""FGVC Aircraft: 100 variants of aircraft, 6,667 images to train on, 3,333 to test.

A pretrained ResNet-50 is fine-tuned with gradient centralization by the authors' recipe; what is
known of that, and where the weights come from, is in `fine_grained.py`. TFDS has not this set, so
its images must lie in folders, DIR/train/VARIANT/*.jpg and DIR/test/VARIANT/*.jpg:

    python -m train --config configs/aircraft_gc.py --config.data.dir=DIR
      --config.init_from=r50.safetensors

The authors' README gives an accuracy of 87.77 %, and 86.62 % without GC, each of one run in
PyTorch. Not trained to its end by us.
"""

from configs import fine_grained


def get_config():
    return fine_grained.get_config()
