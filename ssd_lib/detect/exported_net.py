"""A net of the export stage, whatever runtime runs it: its metadata, and scores and boxes of images."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ssd_lib.boxes.selection import Postprocess
from ssd_lib.errors import StateError
from ssd_lib.export.runtimes import Run
from ssd_lib.images import FULL_RANGE, Range
from ssd_lib.manifest import MAX_CLASSES
from ssd_lib.plain_values import DeepRange, Id, Name, PostprocessSchema, Strict, check
from ssd_lib.processes import available_cores


class MetadataSchema(Strict):
    """The metadata that are used."""

    image_size: Annotated[int, Field(ge=32, le=1024)]
    classes: Annotated[list[Name], Field(min_length=2, max_length=MAX_CLASSES + 1)]
    source_ids: Annotated[list[Id], Field(max_length=MAX_CLASSES)] | None = None
    postprocess: dict[str, Any] = Field(default_factory=dict)
    sixteen_bit_range: DeepRange = FULL_RANGE
    model_sha256: str = ""
    precision: str = "fp32"


@dataclass(frozen=True)
class ExportedNet:
    """What runs a net, and the metadata of its file.

    Attributes:
        run: computes images with all threads together; one image at a time, if not `any_batch`. Any thread may call it.
        open_run: makes another `run` of the same files, with this number of threads.
        any_batch: `run` takes (B, 3, S, S).
        device: "cuda" or "cpu", where it computes.
        runtime: what computes, "ONNX Runtime".
        image_size: S.
        class_names: K names; label i is class_names[i - 1].
        source_ids: the K category ids of the dataset that it was trained on.
        postprocess: how its outputs become detections.
        sixteen_bit_range: see `decode_image`.
        model_sha256: SHA-256 of the ssd.pt that the file was made from; "" if it does not say.
        precision: "fp32" | "int8".
    """

    run: Run
    open_run: Callable[[int], Run]
    any_batch: bool
    device: str
    runtime: str
    image_size: int
    class_names: tuple[str, ...]
    source_ids: tuple[int, ...]
    postprocess: Postprocess
    sixteen_bit_range: Range
    model_sha256: str
    precision: str

    @cached_property
    def one_thread_run(self) -> Run:
        """Return a `run` for several images at a time, each computed by one thread: more images/s than `run`."""
        return self.open_run(1)

    def score_priors(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return scores without the background (B, P, K) and boxes (B, P, 4).

        Each thread computes images; those of a net that takes any batch are one batch for each thread. A GPU has one thread.

        Args:
            images: (B, S, S, 3) uint8, RGB.

        Raises:
            StateError: the net gives nan or infinity.
        """
        pixels = (images.transpose(0, 3, 1, 2).astype(np.float32) / 255 - 0.5) / 0.5
        threads = 1 if self.device == "cuda" else min(thread_count(), len(pixels))
        run = self.one_thread_run if threads > 1 else self.run
        parts = np.array_split(pixels, threads if self.any_batch else len(pixels))
        with ThreadPoolExecutor(threads) as pool:
            outputs = list(pool.map(run, parts))
        scores, boxes = (np.concatenate(column) for column in zip(*outputs, strict=True))
        if not all(np.isfinite(extreme) for values in (scores, boxes) for extreme in (values.min(), values.max())):
            raise StateError(f"net: its output in {self.runtime} is nan or infinite; the weights are not usable. Train again, "
                             "then run `dvc repro export`.")
        return scores[..., 1:], boxes


def checked_metadata(read: Mapping[str, Any]) -> MetadataSchema:
    """Return the metadata of a file, or raise ValueError or InputError if they are incomplete or do not agree."""
    missing = [key for key in ("image_size", "classes") if key not in read]
    if missing:
        raise ValueError(f"its metadata has no {' and no '.join(missing)}")
    values = check(MetadataSchema, {key: read[key] for key in MetadataSchema.model_fields if key in read}, "metadata")
    check(PostprocessSchema, values.postprocess, "metadata postprocess")
    names = len(values.classes) - 1
    if values.source_ids is not None and len(values.source_ids) != names:
        raise ValueError(f"it has {len(values.source_ids)} source ids for {names} classes")
    return values


def wanted_shapes(values: MetadataSchema, batch: int | str, priors: list[int]) -> dict[str, list[int | str]]:
    """Return the shapes that the input and the outputs of a net with these metadata must have."""
    size = values.image_size
    return {"input_0": [batch, 3, size, size], "scores": [batch, *priors, len(values.classes)], "boxes": [batch, *priors, 4]}


def exported_net(run: Run, open_run: Callable[[int], Run], values: MetadataSchema, device: str, runtime: str,
                 any_batch: bool = False) -> ExportedNet:
    """Return the net that `run` computes, with these metadata."""
    names = tuple(values.classes[1:])
    source_ids = values.source_ids if values.source_ids is not None else range(1, len(names) + 1)
    return ExportedNet(run, open_run, any_batch, device, runtime, values.image_size, names, tuple(source_ids),
                       Postprocess.from_plain(values.postprocess), values.sixteen_bit_range, values.model_sha256,
                       values.precision)


def thread_count() -> int:
    """Return with how many threads a net computes on a CPU: as in PyTorch OMP_NUM_THREADS, else one for each core."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(asked)) if asked.isdecimal() else available_cores()
