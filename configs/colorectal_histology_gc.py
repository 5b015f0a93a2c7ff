"""Colorectal cancer histology with gradient centralization: eight kinds of tissue, ResNet-18.

5,000 images of 150x150 pixels, 625 of each of 8 classes: Kather et al. 2016 (Scientific Reports 6,
27988). The set has no test split of its own, so the last fifth of it in TFDS's order, which is
shuffled, is tested on and never trained on. The set does not name its patients, so both parts have
images of the same ones: accuracies are not those for a patient who was never seen.

The recipe is ours: momentum, batch 64, flips, crops from 8 pixels of padding, 60 epochs, the rate
risen to and then lowered along a cosine. The summary has precision, recall and AUC of each class.
For a GPU or a TPU. Not yet trained to its end by us.

    tfds build colorectal_histology --file_format=array_record
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
