"""Measure detections: COCO and VOC metrics, curves, drawn examples."""
