"""Mask R-CNN on COCO with gradient centralization, by the recipe of the GC paper.

    python -m train --config configs/coco_mask_rcnn_gc.py --config.data.dir=FOLDER
    python -m train --config configs/coco_mask_rcnn_gc.py:resnet101,group --config.data.dir=FOLDER

As configs/coco_faster_rcnn_gc.py, with masks. Not yet measured here. The authors report box AP and
mask AP of 37.9 and 34.7 with GC, and 37.4 and 34.1 without, for ResNet-50, of one run each.
"""

from configs import coco_faster_rcnn_gc


def get_config(argument=""):
    config = coco_faster_rcnn_gc.get_config(argument)
    config.model.name = "mask_rcnn"
    return config
