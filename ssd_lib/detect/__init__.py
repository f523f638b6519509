"""Use a trained model: the Detector, ONNX Runtime, images, videos and cameras."""
