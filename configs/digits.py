"""Handwritten digits without gradient centralization: what `digits_gc` is compared with.

Expect no difference: nets this small are where GC is known not to help.
"""

from configs import digits_gc


def get_config():
    config = digits_gc.get_config()
    config.gc.mode = "none"
    return config
