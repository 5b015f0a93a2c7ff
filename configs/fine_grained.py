r"""Fine-grained classification of images in folders: the recipe of the authors of GC.

    python -m train --config configs/fine_grained.py --config.data.dir=DIR \
      --config.init_from=r50.safetensors

`cars196_gc.py`, `cub200_gc.py`, `dogs_gc.py` and `aircraft_gc.py` are based on this file. For
several GPUs.

The recipe (Yong et al. 2020, arXiv 2004.01461): fine-tune a ResNet-50 that was trained on ImageNet.
Batch size 128, 100 epochs, momentum 0.9, L2 decay 1e-4, flips, GC of all layers. The learning rate
is 0.1 for the new last layer and 0.01 for the body, both divided by 10 after epochs 50 and 80.
Images are resized to a shorter side of 512 pixels and cropped to the 448x448 in the center, in
training too.

It follows the authors' program (github.com/Yonghongwei/Gradient-Centralization, in the folder
GC_code/Fine-grained_classification), with three differences:

- Its `lr_mult` is meant to give the body a tenth of the rate, but neither PyTorch's SGD nor theirs
  reads it, so the published program trains the body at 0.1. `--config.optimizer.body_lr_scale=1`
  does the same.
- It drops the last incomplete batch of an epoch. Here that batch continues with the next epoch.
- It reports the best epoch on the test set. Here the last epoch is reported.

To get the pretrained weights, with torchvision and safetensors installed:

    python -c "import torchvision as t, safetensors.torch as s;
    s.save_file(t.models.resnet50(weights='IMAGENET1K_V1').state_dict(), 'r50.safetensors')"

`IMAGENET1K_V1` are the weights that torchvision had when the paper was written. The plain
ResNet-50 of timm (its model.safetensors) and the work folder of a run of `imagenet_gc.py` work too.
Without `init_from` the weights start at random, which is another experiment.
"""

from train.config import default_config


def get_config():
    config = default_config()
    config.num_epochs = 100
    config.precision = "bfloat16"
    config.data.name = "folder"
    config.data.batch_size = 128
    config.data.image_size = 448
    config.data.crop_scale = ()
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    config.data.flip = True
    config.model.name = "resnet50"
    config.model.stem = "7x7"
    config.optimizer.name = "momentum"
    config.optimizer.learning_rate = 0.1
    config.optimizer.body_lr_scale = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "step"
    config.schedule.step_at = (50.0, 80.0)
    config.schedule.step_factor = 0.1
    config.gc.mode = "all"
    config.eval.every_epochs = 5
    config.eval.batch_size = 128
    return config
