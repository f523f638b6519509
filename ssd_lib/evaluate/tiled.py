"""Detect on a split in the way that the model's `postprocess.tiles` says: on whole images, or in their tiles, too."""

from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from ssd_lib.boxes.selection import Postprocess
from ssd_lib.boxes.tiles import detect_in_tiles
from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.evaluate.coco_eval import Predictions, in_pixels, predict
from ssd_lib.nets.postprocess import Detections, score_priors
from ssd_lib.nets.ssd import SSD


def predict_as_shipped(net: SSD, dataset: DetectionDataset, postprocess: Postprocess, batch_size: int, device: torch.device,
                       workers: int) -> Predictions:
    """Detect on every image of a split; without tiles it is `predict`, with them an image and its tiles are a batch.

    Args and errors: as for `predict`.
    """
    if not postprocess.tiles:
        return predict(net, dataset, postprocess, batch_size, device, workers, progress=True)

    def score(images: np.ndarray) -> tuple[Sequence[np.ndarray], Sequence[np.ndarray]]:
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
        scores, boxes = score_priors(net, pixels, postprocess.lowest_vote)
        return [one.numpy() for one in scores], [one.numpy() for one in boxes]

    indices = range(len(dataset))
    found = [detect_in_tiles(dataset.pixels_of(index), postprocess.tiles, net.image_size, score, postprocess)
             for index in tqdm(indices, "evaluate in tiles", unit="image", leave=False, dynamic_ncols=True, disable=None)]
    return in_pixels(indices, [Detections(*map(torch.from_numpy, one)) for one in found], dataset.fixed)
