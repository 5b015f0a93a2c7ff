"""CUB-200-2011: 200 species of birds, 5,994 images to train on, 5,794 to test.

A pretrained ResNet-50 is fine-tuned with gradient centralization by the authors' recipe; what is
known of that, and where the weights come from, is in `fine_grained.py`:

    python -m train --config configs/cub200_gc.py --config.init_from=r50.safetensors

The images are those of TFDS's `caltech_birds2011`, which must be prepared once; where TFDS can
fetch them no more, images in folders do too (`aircraft_gc` has how). The authors' README gives an
accuracy of 83.40 %, and 82.07 % without GC, each of one run in PyTorch. Not trained to its end by
us.
"""

from configs import fine_grained


def get_config():
    config = fine_grained.get_config()
    config.data.name = "caltech_birds2011"
    return config
