"""Faster R-CNN on COCO with gradient centralization, by the recipe of the GC paper.

    python -m train --config configs/coco_faster_rcnn_gc.py --config.data.dir=FOLDER
    python -m train --config configs/coco_faster_rcnn_gc.py:resnet101 --config.data.dir=FOLDER

FOLDER has the images and annotations of COCO 2017. The first argument is the backbone: resnet50,
resnet101, resnext101_32x4d or resnext101_64x4d. Its weights come from a file of PyTorch, such as
resnet50.safetensors; see docs/trainer/pretrained.md. With the argument `group`, batch normalization
of fixed statistics is replaced by group normalization, and the run has 24 epochs instead of 12.

The recipe is for 16 images a step on 8 devices. Not yet measured here. The authors report a box AP
of 37.0 with GC and 36.4 without for ResNet-50, of one run each.
"""

from train.config import default_config, parse_config_argument

BACKBONES = ("resnet50", "resnet101", "resnext101_32x4d", "resnext101_64x4d")
NORMS = ("batch", "group")
_BLOCKS_OF_FIRST_STAGE = 3


def get_config(argument=""):
    backbone, norm = parse_config_argument(argument, backbone=BACKBONES, norm=NORMS)
    config = default_config()
    config.precision = "bfloat16"
    config.data.name = "coco_folder"
    config.data.batch_size = 16
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    config.data.flip = True
    config.data.on_error = "skip"  # a few boxes of COCO have no area
    config.data.workers = 8
    config.model.name = "faster_rcnn"
    config.model.norm = norm
    config.detection.backbone = backbone
    config.optimizer.name = "momentum"
    config.optimizer.learning_rate = 0.02
    config.optimizer.weight_decay = 1e-4
    config.optimizer.clip_norm = 35.0
    blocks = [f"backbone/blocks/{index}" for index in range(_BLOCKS_OF_FIRST_STAGE)]
    config.optimizer.freeze = ("backbone/stem", *blocks)
    config.num_epochs = 24 if norm == "group" else 12
    config.schedule.name = "step"
    config.schedule.step_at = (16.0, 22.0) if norm == "group" else (8.0, 11.0)
    config.schedule.warmup = 500 / (config.num_epochs * 7_330)  # 500 steps
    config.schedule.warmup_from = 1 / 3
    config.eval.batch_size = 16
    config.checkpoint.every_steps = 2_000
    config.gc.mode = "all"
    suffix = "_gn" if norm == "group" else ""
    config.init_from = f"{backbone}{suffix}.safetensors"
    return config
