"""Measure detections: COCO and VOC metrics, precision-recall curves, drawn examples, external datasets."""
