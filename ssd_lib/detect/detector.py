"""The Python interface: images in, detected objects out.

    from ssd_lib import Detector
    found = Detector("models")("photo.jpg")
    print(found.names, found.boxes)
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, get_args, overload

import cv2
import numpy as np

from ssd_lib.boxes.selection import Nms, Postprocess, Selected, Threshold, Tiles, select
from ssd_lib.boxes.tiles import ScorePriors, detect_in_tiles
from ssd_lib.errors import InputError, StateError
from ssd_lib.export.runtimes import is_runtime_path
from ssd_lib.images import Range, read_image
from ssd_lib.params import DEVICE_PATTERN
from ssd_lib.plain_values import MOST_TILES

Image = np.ndarray | str | Path


class About(Protocol):
    """What a model file says of its net."""

    @property
    def image_size(self) -> int: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def source_ids(self) -> tuple[int, ...]: ...
    @property
    def sixteen_bit_range(self) -> Range: ...


class Objects(NamedTuple):
    """The objects detected in one image, highest score first.

    Attributes:
        boxes: (N, 4) float32, xyxy in pixels of the image.
        labels: (N,) int64 in 1..K.
        scores: (N,) float32.
        names: N names, that of each object's class.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    names: tuple[str, ...]

    def to_supervision(self) -> Any:
        """Return the objects as `supervision.Detections`, for that package's drawing, zones and counters.

        `class_id` is an index of the Detector's `class_names`, and data["class_name"] has the names.

        Raises:
            StateError: the package supervision is not installed.
        """
        try:
            from supervision import Detections
        except ImportError as error:
            raise StateError("to_supervision: the package supervision is not installed. `pip install supervision` installs "
                             "it.") from error
        return Detections(xyxy=self.boxes, confidence=self.scores, class_id=self.labels - 1,
                          data={"class_name": np.array(self.names, dtype=str)})


class Detector:
    """A trained model; call it with images.

    Args:
        path: a folder, whose fastest file on this machine is taken (see fastest.py); or a file: models/ssd.pt of the train
            stage, models/ssd.onnx, models/int8/ssd.onnx, models/openvino, models/ncnn or models/litert of the export stage, or
            a combo checkpoint.
        device: "auto" | "cpu" | "cuda" | "cuda:1".
        threshold: objects with a lower score are dropped. "auto": below the threshold of their class, which has the best F1 on
            the validation images; `SHOWN_SCORE` where a model does not know it. A number, [0, 1], is for all classes. None
            takes `postprocess.score_threshold`, which is chosen for AP and too low for display.
        top_k: most objects kept per image; None takes the model's own `max_detections`.
        nms: "hard" removes a box that overlaps a better one of its class; "soft" lowers its score.
        batch_size: images per batch.
        nms_iou: NMS removes a box whose IoU with a better one of its class is higher; None takes the model's own.
        tiles: for small objects in large images, also detect in so many overlapping parts of each, see boxes/tiles.py; "auto"
            takes parts of about twice `image_size`; 0 is off; None takes the model's own `tiles`, which is 0 unless
            params.yaml says otherwise.
        low_score: objects from this score on are kept, too, below the threshold of their class: for `follow` in tracks.py.

    Attributes:
        path: the file that is used.
        device: "cpu" | "cuda" and perhaps a number.
        precision: of the net, "fp32" | "int8".
        class_names: K names; label i is class_names[i - 1].
        thresholds: (K,) float32, the lowest score of each class that is kept, but for `low_score`.
        source_ids: the K category ids of the dataset that it was trained on.
        image_size: side of the net's input in pixels; images of any size are scaled to it.
        sixteen_bit_range: values of 16-bit image files that become 0 and 255, as in training.

    Raises:
        StateError: the file or the device is missing.
        InputError: the file is not a model of this project, or an argument is out of range.
    """

    def __init__(self, path: str | Path = "models", device: str = "auto", threshold: Threshold = "auto",
                 top_k: int | None = None, nms: Nms = "hard", batch_size: int = 16, nms_iou: float | None = None,
                 tiles: Tiles | None = None, low_score: float = 1.0) -> None:
        _check(device, threshold, top_k, nms, batch_size, nms_iou, tiles)
        loaded = _load(Path(path), device, threshold, low_score)
        about, own = loaded.about, loaded.postprocess
        self.path, self.device, self.precision, self._score_priors = loaded[:4]
        self.thresholds = _checked(own.lowest_scores(threshold, len(about.class_names)), about, self.path)
        self._lowest_scores = np.minimum(self.thresholds, np.float32(low_score))
        self.image_size, self.class_names, self.source_ids = about.image_size, about.class_names, about.source_ids
        self.sixteen_bit_range = about.sixteen_bit_range
        self._nms: Nms = nms
        self._batch_size = batch_size
        self._postprocess = Postprocess(
            float(self._lowest_scores.min()), own.nms_iou if nms_iou is None else nms_iou,
            max(own.top_k_per_class, top_k or 0), top_k or own.max_detections,
            tiles=own.tiles if tiles is None else tiles, vote_iou=own.vote_iou)

    @overload
    def __call__(self, images: Image) -> Objects: ...  # type: ignore[overload-overlap]  # a str is an Iterable[str]

    @overload
    def __call__(self, images: Iterable[Image]) -> list[Objects]: ...

    def __call__(self, images: Image | Iterable[Image]) -> Objects | list[Objects]:
        """Detect the objects in one image, or in each of several.

        Args:
            images: an (H, W, 3) uint8 RGB array or the path of an image file, or an iterable of these.

        Raises:
            InputError: a file is not an image, or an array has another shape or type.
        """
        if isinstance(images, np.ndarray | str | Path):
            return self._detect([self._pixels(images)])[0]
        if isinstance(images, bytes) or type(images).__name__ == "Tensor" or not isinstance(images, Iterable):
            raise _not_an_image(images)
        return [found for _, found in self.stream(images)]

    def stream(self, images: Iterable[Image]) -> Iterator[tuple[np.ndarray, Objects]]:
        """Yield the pixels and objects of each image, reading `batch_size` images ahead: for videos and many files.

        Args:
            images: as for a call; a generator is consumed batch by batch.

        Raises:
            InputError: as for a call.
        """
        remaining = iter(images)
        while batch := [self._pixels(image) for image in islice(remaining, self._batch_size)]:
            yield from zip(batch, self._detect(batch), strict=True)

    def _pixels(self, image: Image) -> np.ndarray:
        if isinstance(image, str | Path):
            return read_image(Path(image), self.sixteen_bit_range)
        if not isinstance(image, np.ndarray):
            raise _not_an_image(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise InputError(f"Detector: an image is {image.dtype} of shape {image.shape}; it must be uint8 of shape "
                             "(height, width, 3), RGB. Convert it, or give the path of its file.")
        return image

    def _detect(self, images: Sequence[np.ndarray]) -> list[Objects]:
        side = (self.image_size, self.image_size)
        if tiles := self._postprocess.tiles:
            return [self._objects(self._shown(detect_in_tiles(
                image, tiles, self.image_size, self._score_priors, self._postprocess, self._nms)), image.shape[:2])
                for image in images]
        scores, boxes = self._score_priors(np.stack([cv2.resize(one, side, interpolation=cv2.INTER_LINEAR) for one in images]))
        return [self._objects(self._shown(select(of_image, places, self._postprocess, self._nms)), image.shape[:2])
                for of_image, places, image in zip(scores, boxes, images, strict=True)]

    def _shown(self, found: Selected) -> Selected:
        """Return the detections that reach the threshold of their class, or `low_score`."""
        kept = found.scores >= self._lowest_scores[found.labels - 1]
        return Selected(found.boxes[kept], found.labels[kept], found.scores[kept])

    def _objects(self, found: Selected, size: tuple[int, ...]) -> Objects:
        height, width = size
        boxes = found.boxes * np.array([width, height, width, height], dtype=np.float32)
        return Objects(boxes, found.labels, found.scores, tuple(self.class_names[label - 1] for label in found.labels))


class _Loaded(NamedTuple):
    """A model file, a function that runs its net, what it says of the net, and its postprocess values."""

    path: Path
    device: str
    precision: str
    score_priors: ScorePriors
    about: About
    postprocess: Postprocess


def _load(path: Path, device: str, threshold: Threshold, low_score: float) -> _Loaded:
    """Load a model file, or the fastest of a folder.

    What runs the net is imported only here: an ONNX file needs no torch, and a device without torch can use it.
    """
    exported = None
    if is_runtime_path(path):
        from ssd_lib.detect.runtime_net import load_runtime

        exported = load_runtime(path, device)
    elif path.is_dir():
        from ssd_lib.detect.fastest import choose

        path, exported = choose(path, device)
    elif path.suffix.lower() == ".onnx":
        from ssd_lib.detect.onnx_net import load_onnx

        exported = load_onnx(path, device)
    if exported:
        return _Loaded(path, exported.device, exported.precision, exported.score_priors, exported, exported.postprocess)
    from ssd_lib.detect.torch_net import load_torch

    in_torch = load_torch(path, device, threshold, low_score)
    return _Loaded(path, in_torch.device, "fp32", in_torch.score_priors, in_torch.about, in_torch.postprocess)


def _checked(thresholds: tuple[float, ...], about: About, path: Path) -> np.ndarray:
    """Return the thresholds as (K,) float32, or raise InputError if their number differs from that of the classes."""
    if len(thresholds) != len(about.class_names):
        raise InputError(f"{path}: its postprocess has {len(thresholds)} class_thresholds for {len(about.class_names)} "
                         "classes; one for each is needed. `dvc repro` makes the file anew; or give a number as the threshold.")
    return np.array(thresholds, dtype=np.float32)


def _check(device: str, threshold: object, top_k: int | None, nms: str, batch_size: int, nms_iou: float | None,
           tiles: object) -> None:
    def is_fraction(value: object) -> bool:
        return value is None or (isinstance(value, int | float) and 0 <= value <= 1)
    for name, value, holds, allowed in (
        ("device", device, isinstance(device, str) and re.fullmatch(DEVICE_PATTERN, device),
         "'auto', 'cpu', 'cuda' or 'cuda:1'"),
        ("threshold", threshold, threshold == "auto" or is_fraction(threshold), "from 0 to 1, or 'auto'"),
        ("nms_iou", nms_iou, is_fraction(nms_iou), "from 0 to 1"),
        ("top_k", top_k, top_k is None or (isinstance(top_k, int) and top_k >= 1), "a whole number, 1 or more"),
        ("nms", nms, nms in get_args(Nms), " or ".join(get_args(Nms))),
        ("tiles", tiles, tiles in (None, "auto") or (type(tiles) is int and 0 <= tiles <= MOST_TILES),
         f"'auto' or a whole number, 0 to {MOST_TILES}"),
        ("batch_size", batch_size, isinstance(batch_size, int) and batch_size >= 1, "a whole number, 1 or more"),
    ):
        if not holds:
            raise InputError(f"Detector: {name} is {value!r}; it must be {allowed}.")


def _not_an_image(value: object) -> InputError:
    return InputError(f"Detector: an image is a {type(value).__name__}; it must be the path of an image file, or a NumPy "
                      "array, uint8 of shape (height, width, 3), RGB. Convert it; for Pillow: np.asarray(image).")
