"""Faster R-CNN on the blood cells of BCCD with gradient centralization, from random weights.

    python -m train --config configs/bccd_faster_rcnn_gc.py --config.data.dir=FOLDER

FOLDER has the images of BCCD (MIT licence; github.com/Shenggan/BCCD_Dataset) in COCO format:
images/, instances_train.json and instances_test.json.
"""

from configs import digits_detection_gc


def get_config():
    config = digits_detection_gc.get_config()
    config.data.name = "coco_folder"
    config.data.in_memory = True
    config.data.batch_size = 8
    config.data.flip = True
    config.data.mean = (0.737, 0.696, 0.715)
    config.data.std = (0.061, 0.102, 0.075)
    config.model.name = "faster_rcnn"
    config.optimizer.learning_rate = 4e-3  # the best on validation images with GC
    config.detection.short_side = 128
    config.detection.long_side = 160
    config.detection.max_objects = 32
    config.detection.rpn_samples, config.detection.box_samples = 128, 64
    config.detection.max_detections = 100
    config.detection.train_proposals = config.detection.test_proposals = 128
    config.eval.batch_size = 24
    return config
