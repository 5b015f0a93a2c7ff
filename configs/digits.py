"""Handwritten digits without gradient centralization: what `digits_gc` is compared with."""

from configs import digits_gc


def get_config():
    config = digits_gc.get_config()
    config.gc.mode = "none"
    return config
