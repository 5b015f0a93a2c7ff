"""A small convolutional network on handwritten digits without GC: the baseline of `digits_gc.py`.

    python -m train --config configs/digits.py

Expect no difference from `digits_gc.py`: on networks this small, GC is known not to help.
"""

from configs import digits_gc


def get_config():
    config = digits_gc.get_config()
    config.gc.mode = "none"
    return config
