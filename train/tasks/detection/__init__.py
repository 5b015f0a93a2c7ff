"""What a detector learns: targets, losses and detections."""
