"""Detectors of blood cells and of nuclei with gradient centralization and without, five seeds each.

    python -m train.study --config configs/study_cells.py:bccd --config.base.data.dir=FOLDER
    python -m train.study --config configs/study_cells.py:nuclei --config.base.data.dir=FOLDER

FOLDER is that of configs/bccd_faster_rcnn_gc.py or configs/nuclei_mask_rcnn_gc.py. The rate of each
arm is chosen on a fifth of the training images.
"""

from configs import bccd_faster_rcnn_gc, nuclei_mask_rcnn_gc
from train.config import parse_config_argument
from train.studies.config import default_study


def get_config(argument=""):
    (data,) = parse_config_argument(argument, data=("bccd", "nuclei"))
    base = (bccd_faster_rcnn_gc if data == "bccd" else nuclei_mask_rcnn_gc).get_config()
    base.eval.every_epochs = 100  # only at the end
    config = default_study(base)
    config.optimizers = ("adam",)
    config.seeds = (0, 1, 2, 3, 4)
    config.learning_rates.adam = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016)
    config.tuning.seeds = (1000,)
    config.tuning.validation_examples = 58 if data == "bccd" else 21
    config.target_loss = 0.8
    return config
