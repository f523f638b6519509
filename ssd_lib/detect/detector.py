"""The detector as a library: pictures in, objects out.

    from ssd_lib import Detector
    found = Detector("models/ssd.pt")("photo.jpg")
    print(found.class_names, found.boxes)
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, get_args, overload

import cv2
import numpy as np
import torch
from torch import Tensor

from ssd_lib.checkpoint.weights import open_model
from ssd_lib.detect.onnx_net import OnnxNet, load_onnx
from ssd_lib.device import pick_device
from ssd_lib.errors import InputError
from ssd_lib.images import read_image
from ssd_lib.nets.fusion import fuse_batch_norms
from ssd_lib.nets.model_file import MODEL_PATH, NetSpec
from ssd_lib.nets.postprocess import Detections, Nms, score_priors, select_detections
from ssd_lib.params import DEVICE_PATTERN, EvalParams

Picture = np.ndarray | str | Path
ScorePriors = Callable[[Tensor], tuple[Iterable[Tensor], Iterable[Tensor]]]  # (B, 3, S, S) uint8 -> scores, boxes
NMS_IOU = 0.45
TOP_K_PER_CLASS = 200


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
        path: models/ssd.pt, as the train stage writes it; models/ssd.onnx, as the export stage does; or a combo checkpoint.
        device: "auto" | "cpu" | "cuda" | "cuda:1".
        threshold: objects below this score are left out, [0, 1].
        top_k: objects kept of each picture.
        nms: "hard" (of two boxes of a class that overlap, the weaker goes) or "soft" (it loses score: see soft_nms.py).
        batch_size: pictures at once.

    Attributes:
        class_names: K names; label i is class_names[i - 1].
        source_ids: the K category ids of the data set that it was trained on.
        image_size: side of the net's input in pixels; pictures of any size are scaled to it.

    Raises:
        StateError: the file or the device is not there.
        InputError: it is not a model file of this project, or an argument is out of its range.
    """

    def __init__(self, path: str | Path = MODEL_PATH, device: str = "auto", threshold: float = 0.4, top_k: int = 100,
                 nms: Nms = "hard", batch_size: int = 16) -> None:
        _check(device, threshold, top_k, nms, batch_size)
        self._score_priors, about = _load(Path(path), device, threshold)
        self.image_size, self.class_names, self.source_ids = about.image_size, about.class_names, about.source_ids
        self._nms: Nms = nms
        self._params = EvalParams(batch_size=batch_size, score_threshold=threshold, nms_iou=NMS_IOU,
                                  top_k_per_class=max(top_k, TOP_K_PER_CLASS), max_detections=top_k, pictures=0)

    @overload
    def __call__(self, pictures: Picture) -> Objects: ...  # type: ignore[overload-overlap]  # a str is an Iterable[str]

    @overload
    def __call__(self, pictures: Iterable[Picture]) -> list[Objects]: ...

    def __call__(self, pictures: Picture | Iterable[Picture]) -> Objects | list[Objects]:
        """Find the objects of a picture, or of each of many.

        Args:
            pictures: (H, W, 3) uint8 RGB arrays or paths of image files; a list of any of these, or a single one.

        Raises:
            InputError: a file is not an image, or an array is of another kind.
        """
        if isinstance(pictures, np.ndarray | str | Path):
            return self._find([_pixels(pictures)])[0]
        if isinstance(pictures, bytes | Tensor) or not isinstance(pictures, Iterable):
            raise _no_picture(pictures)
        return [found for _, found in self.stream(pictures)]

    def stream(self, pictures: Iterable[Picture]) -> Iterator[tuple[np.ndarray, Objects]]:
        """Give each picture's pixels and objects, reading `batch_size` pictures ahead: for a video, or a million files.

        Args:
            pictures: as for a call; a generator is read as it is needed.

        Raises:
            InputError: as a call does.
        """
        waiting = iter(pictures)
        while batch := [_pixels(picture) for picture in islice(waiting, self._params.batch_size)]:
            yield from zip(batch, self._find(batch), strict=True)

    @torch.inference_mode()
    def _find(self, images: Sequence[np.ndarray]) -> list[Objects]:
        side = (self.image_size, self.image_size)
        resized = np.stack([cv2.resize(image, side, interpolation=cv2.INTER_LINEAR) for image in images])
        scores, boxes = self._score_priors(torch.from_numpy(resized).permute(0, 3, 1, 2))
        found = select_detections(scores, boxes, self._params, self._nms)
        return [self._objects(one, image.shape[:2]) for one, image in zip(found, images, strict=True)]

    def _objects(self, found: Detections, size: tuple[int, ...]) -> Objects:
        height, width = size
        labels = found.labels.cpu().numpy()
        return Objects(found.boxes.cpu().numpy() * np.array([width, height, width, height], dtype=np.float32), labels,
                       found.scores.cpu().numpy(), tuple(self.class_names[label - 1] for label in labels))


def _load(path: Path, name: str, threshold: float) -> tuple[ScorePriors, NetSpec | OnnxNet]:
    """How the file's net is run, and what is known of it."""
    if path.suffix.lower() == ".onnx":
        exported = load_onnx(path, name)
        return exported.score_priors, exported
    device = pick_device(name)
    model = open_model(path, device)
    net = fuse_batch_norms(model.net)
    return lambda images: score_priors(net, images.to(device), threshold), model.spec


def _check(device: str, threshold: float, top_k: int, nms: str, batch_size: int) -> None:
    for name, value, holds, allowed in (
        ("device", device, isinstance(device, str) and re.fullmatch(DEVICE_PATTERN, device),
         "'auto', 'cpu', 'cuda' or 'cuda:1'"),
        ("threshold", threshold, isinstance(threshold, int | float) and 0 <= threshold <= 1, "from 0 to 1"),
        ("top_k", top_k, isinstance(top_k, int) and top_k >= 1, "a whole number, 1 or more"),
        ("nms", nms, nms in get_args(Nms), " or ".join(get_args(Nms))),
        ("batch_size", batch_size, isinstance(batch_size, int) and batch_size >= 1, "a whole number, 1 or more"),
    ):
        if not holds:
            raise InputError(f"Detector: {name} is {value!r}; it must be {allowed}.")


def _pixels(picture: Picture) -> np.ndarray:
    if isinstance(picture, str | Path):
        return read_image(Path(picture))
    if not isinstance(picture, np.ndarray):
        raise _no_picture(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise InputError(f"Detector: a picture is {picture.dtype} of shape {picture.shape}; it must be uint8 of shape "
                         "(height, width, 3), RGB. Convert it, or give the path of its file.")
    return picture


def _no_picture(value: object) -> InputError:
    return InputError(f"Detector: a picture is a {type(value).__name__}; it must be the path of an image file, or a numpy "
                      "array, uint8 of shape (height, width, 3), RGB. Convert it: np.asarray(image) does for Pillow.")
