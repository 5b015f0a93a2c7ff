"""A small convolutional network on the digits 0 to 6 without GC: pretrained weights for other runs.

    python -m train --config configs/digits_pretrain.py

Takes half a minute on two CPU cores. Expect a test_top1 of 1.0 on 253 test images.
`digits_transfer_gc.py` and `study_digits_transfer.py` start from its work folder,
`runs/digits_pretrain`.
"""

from configs import digits


def get_config():
    config = digits.get_config()
    config.num_epochs = 30
    config.data.classes = (0, 1, 2, 3, 4, 5, 6)
    return config
