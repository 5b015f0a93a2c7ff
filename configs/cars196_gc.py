"""Stanford Cars: 196 models of cars, 8,144 images to train on, 8,041 to test.

A pretrained ResNet-50 is fine-tuned with gradient centralization by the authors' recipe; what is
known of that, and where the weights come from, is in `fine_grained.py`:

    python -m train --config configs/cars196_gc.py --config.init_from=r50.safetensors

The images are those of TFDS's `cars196`, which must be prepared once; where TFDS can fetch them no
more, images in folders do too (`aircraft_gc` has how). The authors' README gives an accuracy of
90.03 %, and 88.66 % without GC, each of one run in PyTorch. Not trained to its end by us.
"""

from configs import fine_grained


def get_config():
    config = fine_grained.get_config()
    config.data.name = "cars196"
    return config
