"""Mask R-CNN on the nuclei of BBBC038 with gradient centralization, from random weights.

    python -m train --config configs/nuclei_mask_rcnn_gc.py --config.data.dir=FOLDER

FOLDER has images of stage 1 of the 2018 Data Science Bowl (CC0, bbbc.broadinstitute.org/BBBC038) in
COCO format: images/, instances_train.json and instances_test.json. Training uses squares of 128
pixels, and testing whole images, which can have several hundred nuclei.
"""

from configs import digits_detection_gc


def get_config():
    config = digits_detection_gc.get_config()
    config.data.name = "coco_folder"
    config.data.in_memory = True
    config.data.batch_size = 8
    config.data.flip = True
    config.data.mean = (0.240, 0.234, 0.248)
    config.data.std = (0.327, 0.323, 0.338)
    config.num_steps = 1_200
    config.optimizer.learning_rate = 4e-3  # the best on validation images with GC
    config.detection.tile = 128
    config.detection.anchor_sizes = (8.0, 16.0, 32.0)
    config.detection.max_objects = 64
    config.detection.rpn_samples, config.detection.box_samples = 128, 64
    config.detection.max_detections = 400
    config.detection.train_proposals = 128
    config.detection.test_proposals = 600
    config.eval.batch_size = 2
    config.eval.every_epochs = 100  # only at the end: test images are large
    return config
