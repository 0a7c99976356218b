"""Tracks from boxes: association of detections, and boxes that start tracks."""
