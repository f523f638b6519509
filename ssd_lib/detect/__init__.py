"""What a trained net is used for: detections, evaluation, pictures, export."""
