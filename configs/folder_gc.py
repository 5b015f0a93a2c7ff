"""A folder of your own images, with GC: a small ResNet that trains on two cores.

    python -m train --config configs/folder_gc.py --config.data.dir=DIR

DIR contains one folder for each class, DIR/CLASS/*.jpg; a fifth of the images is the test split. If
it contains train/CLASS and test/CLASS, add --config.data.test_share=0. The images are decoded once
at 64x64 pixels and kept in memory; --config.data.image_size changes that. For many or large images,
--config.data.in_memory=false --config.data.pad=0 streams random crops instead.
"""

from train.config import default_config


def get_config():
    config = default_config()
    config.num_epochs = 30
    config.data.name = "folder"
    config.data.image_size = 64
    config.data.in_memory = True
    config.data.test_share = 0.2
    config.data.batch_size = 32
    config.data.mean = config.data.std = "measure"
    config.data.pad = 8
    config.data.flip = True
    config.model.name = "resnet8"
    config.model.stem = "3x3/2"
    config.model.widen_factor = 2
    config.optimizer.name = "momentum"
    config.optimizer.learning_rate = 0.05
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "cosine"
    config.schedule.warmup = 0.1
    config.eval.every_epochs = 5
    config.log_every_steps = 10
    return config
