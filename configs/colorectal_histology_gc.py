"""ResNet-18 on histology of colorectal cancer with gradient centralization: 8 tissue types.

    make data NAME=colorectal_histology
    python -m train --config configs/colorectal_histology_gc.py

5,000 images of 150x150 pixels, 625 of each class (Kather et al. 2016, Scientific Reports 6, 27988).
The data set has no test split. The last fifth of the examples in the shuffled order of TFDS is the
test split. The data set does not identify patients, so both splits contain images of the same
patients, and the accuracy is not that for a new patient.

The recipe is ours: momentum, batch size 64, 60 epochs, random crops with 8 pixels of padding,
flips, warm-up and a cosine schedule. The summary contains precision, recall and AUC of each class.
For a GPU or a TPU. We have not trained this config to the end.
"""

from train.config import default_config


def get_config():
    config = default_config()
    config.num_epochs = 60
    config.data.name = "colorectal_histology"
    config.data.test_share = 0.2
    config.data.batch_size = 64
    config.data.mean = (0.5, 0.5, 0.5)
    config.data.std = (0.25, 0.25, 0.25)
    config.data.pad = 8
    config.data.flip = True
    config.model.name = "resnet18"
    config.model.stem = "7x7"
    config.optimizer.name = "momentum"
    config.optimizer.learning_rate = 0.05
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "cosine"
    config.schedule.warmup = 0.05
    config.gc.mode = "all"
    config.eval.every_epochs = 5
    config.eval.per_class = True
    return config
