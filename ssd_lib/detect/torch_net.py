"""Run a trained net in PyTorch, from models/ssd.pt or a checkpoint."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ssd_lib.boxes.selection import Postprocess, Threshold
from ssd_lib.checkpoint.weights import open_model
from ssd_lib.device import pick_device
from ssd_lib.nets.model_file import NetSpec
from ssd_lib.nets.postprocess import score_priors
from ssd_lib.nets.rewrite import fuse_batch_norms

Scored = tuple[Sequence[np.ndarray], Sequence[np.ndarray]]  # (P, K) without the background and (P, 4) of each image


class TorchNet(NamedTuple):
    """A function from (B, S, S, 3) uint8 RGB to scores and boxes, what the file says of the net, and the device."""

    score_priors: Callable[[np.ndarray], Scored]
    about: NetSpec
    postprocess: Postprocess
    device: str


def load_torch(path: Path, device_name: str, threshold: Threshold, low_score: float = 1.0) -> TorchNet:
    """Load a trained net.

    Args:
        path: models/ssd.pt, or a combo checkpoint.
        device_name: as for `pick_device`.
        threshold, low_score: as for `Detector`; scores far below both are not computed further.

    Raises:
        StateError: the file or the device is missing.
        InputError: the file is not a model of this project.
    """
    device = pick_device(device_name)
    model = open_model(path, device)
    net = fuse_batch_norms(model.net)
    lowest = min(low_score, *model.postprocess.lowest_scores(threshold, model.net.classes))
    floor = model.postprocess._replace(score_threshold=lowest).lowest_vote

    @torch.inference_mode()
    def score(images: np.ndarray) -> Scored:
        scores, boxes = score_priors(net, torch.from_numpy(images).permute(0, 3, 1, 2).to(device), floor)
        return [one.numpy() for one in scores], [one.numpy() for one in boxes]

    return TorchNet(score, model.spec, model.postprocess, str(device))
