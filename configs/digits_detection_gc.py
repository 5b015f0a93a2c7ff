"""Mask R-CNN on handwritten digits on canvases with gradient centralization, without a download.

python -m train --config configs/digits_detection_gc.py
"""

from train.config import default_config


def get_config():
    config = default_config()
    config.data.name = "digits_detection"
    config.data.batch_size = 16
    config.data.mean = (0.274, 0.274, 0.274)
    config.data.std = (0.139, 0.139, 0.139)
    config.num_epochs = 0
    config.num_steps = 1_000
    config.model.name = "mask_rcnn"
    config.model.norm = "group"
    config.detection.backbone = "small"
    config.detection.anchor_sizes = (12.0, 24.0, 48.0)
    config.detection.short_side = config.detection.long_side = 64
    config.detection.max_objects = 5
    config.detection.mask_size = 28
    config.detection.train_proposals = config.detection.test_proposals = 64
    config.detection.rpn_samples, config.detection.box_samples = 64, 32
    config.detection.max_detections = 20
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.clip_norm = 10.0
    config.schedule.name = "cosine"
    config.schedule.warmup = 0.1
    config.eval.every_epochs = 5
    config.eval.batch_size = 50
    config.log_every_steps = 50
    config.gc.mode = "all"
    return config
