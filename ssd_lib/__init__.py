"""Single Shot MultiBox Detector: data, nets, training that continues bit for bit, evaluation, export."""
