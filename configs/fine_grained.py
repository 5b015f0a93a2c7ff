"""Fine-grained classes by the recipe of the paper's authors, for images in folders of your own.

`cars196_gc`, `cub200_gc`, `dogs_gc` and `aircraft_gc` are made from it: a ResNet-50 that ImageNet
has trained, fine-tuned: batch 128, 100 epochs, momentum 0.9, L2 1e-4, rate 0.1 for the new last
layer and 0.01 for the body, both divided by 10 after epochs 50 and 80; images whose shorter side is
512 pixels, of which the middle 448x448 is kept, in training too; flips; GC of all layers. For
several GPUs.

This is read off the authors' program (github.com/Yonghongwei/Gradient-Centralization, the folder
GC_code/Fine-grained_classification). Three things to know: its `lr_mult`, which is to make the
body's rate a tenth, is read by neither PyTorch's SGD nor theirs, so that the published program
trains the body at 0.1 (--config.optimizer.body_lr_scale=1 does that); it leaves out the last batch of
an epoch where we go on into the next; and it reports the best epoch on the test set, we the last.

The weights to begin from are yours to fetch. With torchvision and safetensors installed:

    python -c "import torchvision as t, safetensors.torch as s;
    s.save_file(t.models.resnet50(weights='IMAGENET1K_V1').state_dict(), 'r50.safetensors')"
    python -m train --config configs/cars196_gc.py --config.init_from=r50.safetensors

`IMAGENET1K_V1` are those that torchvision had when the paper was written. A plain ResNet-50 of
timm (its model.safetensors) is read too, as is the work folder of a run of `imagenet_gc`. Without
`init_from` the net begins from random numbers, which is another experiment.
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
