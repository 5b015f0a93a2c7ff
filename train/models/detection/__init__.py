"""Networks for object detection: Faster R-CNN and Mask R-CNN with a feature pyramid."""
