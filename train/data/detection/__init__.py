"""Data sets for object detection."""
