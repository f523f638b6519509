"""The detector as a library: pictures in, objects out.

    from ssd_lib.infer.detector import Detector
    objects = Detector("models/ssd.pt")("photo.jpg")
    print(objects.class_names, objects.boxes)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, overload

import cv2
import numpy as np
import torch

from ssd_lib.device import pick_device
from ssd_lib.errors import InputError
from ssd_lib.images import read_image
from ssd_lib.infer.postprocess import Detections, detect
from ssd_lib.nets.model_file import MODEL_PATH, load_model
from ssd_lib.params import EvalParams

Picture = np.ndarray | str | Path


class Objects(NamedTuple):
    """What was found in one picture, the highest score first.

    Attributes:
        boxes: (N, 4) float32, xyxy in pixels of the picture.
        labels: (N,) int64 in 1..K.
        scores: (N,) float32.
        class_names: N names.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    class_names: tuple[str, ...]


class Detector:
    """A trained model, ready to be called.

    Args:
        path: a model file, as the train stage writes it.
        device: "auto" | "cpu" | "cuda" | "cuda:1".
        threshold: objects below this score are left out.
        batch_size: pictures at once.

    Raises:
        StateError: the file or the device is not there.
        InputError: it is not a model file of this project.
    """

    def __init__(self, path: str | Path = MODEL_PATH, device: str = "auto", threshold: float = 0.4,
                 batch_size: int = 16) -> None:
        self.device = pick_device(device)
        model = load_model(Path(path), self.device)
        self.net, self.spec = model.net, model.spec
        self.params = EvalParams(batch_size=batch_size, score_threshold=threshold, nms_iou=0.45, top_k_per_class=200,
                                 max_detections=100, pictures=0)

    @overload
    def __call__(self, pictures: Picture) -> Objects: ...  # type: ignore[overload-overlap]  # a str is a Sequence[str]

    @overload
    def __call__(self, pictures: Sequence[Picture]) -> list[Objects]: ...

    def __call__(self, pictures: Picture | Sequence[Picture]) -> Objects | list[Objects]:
        """Find the objects of a picture, or of each of many.

        Args:
            pictures: (H, W, 3) uint8 RGB arrays or paths of image files; a list of any of these, or a single one.

        Raises:
            InputError: a file is not an image, or an array is of another kind.
        """
        if isinstance(pictures, np.ndarray | str | Path):
            return self._find([pictures])[0]
        size = self.params.batch_size
        return [found for i in range(0, len(pictures), size) for found in self._find(pictures[i:i + size])]

    def _find(self, batch: Sequence[Picture]) -> list[Objects]:
        images = [_pixels(picture) for picture in batch]
        side = self.spec.image_size
        resized = np.stack([cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR) for image in images])
        found = detect(self.net, torch.from_numpy(resized).permute(0, 3, 1, 2).to(self.device), self.params)
        return [self._objects(one, image.shape[:2]) for one, image in zip(found, images, strict=True)]

    def _objects(self, found: Detections, size: tuple[int, ...]) -> Objects:
        height, width = size
        labels = found.labels.cpu().numpy()
        return Objects(found.boxes.cpu().numpy() * np.array([width, height, width, height], dtype=np.float32), labels,
                       found.scores.cpu().numpy(), tuple(self.spec.class_names[label - 1] for label in labels))


def _pixels(picture: Picture) -> np.ndarray:
    if not isinstance(picture, np.ndarray):
        return read_image(Path(picture))
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise InputError(f"Detector: a picture is {picture.dtype} of shape {picture.shape}; it must be uint8 of shape "
                         "(height, width, 3), RGB. Convert it, or give the path of its file.")
    return picture
