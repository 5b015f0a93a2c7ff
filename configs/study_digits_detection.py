"""Mask R-CNN on digits with gradient centralization and without, with eight seeds.

    python -m train.study --config configs/study_digits_detection.py

The rate of each arm is chosen on 200 of the training images.
"""

from configs import digits_detection_gc
from train.studies.config import default_study


def get_config():
    base = digits_detection_gc.get_config()
    base.eval.every_epochs = 100  # only at the end
    config = default_study(base)
    config.optimizers = ("adam",)
    config.seeds = (0, 1, 2, 3, 4, 5, 6, 7)
    config.learning_rates.adam = (0.0005, 0.001, 0.002, 0.004, 0.008)
    config.tuning.seeds = (1000,)
    config.tuning.validation_examples = 200
    config.target_loss = 0.8
    return config
