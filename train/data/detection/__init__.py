"""Images with objects: boxes, classes and masks, for detection and instance segmentation."""
