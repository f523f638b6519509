"""Read and write models/ssd.pt: a trained detector as plain values and tensors. Reading it executes no pickled code."""

import os
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssd_lib.boxes.selection import PUBLISHED, Postprocess
from ssd_lib.errors import InputError, StateError, first_line
from ssd_lib.files import atomic_write, why_unreadable
from ssd_lib.images import FULL_RANGE, Range
from ssd_lib.nets.schema import ModelSchema, check_spec, misfit, refuse_bomb
from ssd_lib.nets.ssd import SSD, Scores
from ssd_lib.nets.zoo import build_net
from ssd_lib.plain_values import PostprocessSchema, check, shown_name

MODEL_PATH = Path("models/ssd.pt")
MODEL_FORMAT = "ssd-model-1"


@dataclass(frozen=True)
class NetSpec:
    """The values that build a net and interpret its outputs.

    Attributes:
        net: a key of `NETS`.
        image_size: side of the square input in pixels.
        width_mult: width of the backbone.
        class_names: K names; label i is class_names[i - 1].
        source_ids: the K category ids of the training dataset.
        prior_sizes: see `build_net`; empty for the published sizes.
        scores: see `SSD`.
        sixteen_bit_range: values of 16-bit images that become 0 and 255 before the net sees them.
    """

    net: str
    image_size: int
    width_mult: float
    class_names: tuple[str, ...]
    source_ids: tuple[int, ...]
    prior_sizes: tuple[float, ...] = ()
    scores: Scores = "softmax"
    sixteen_bit_range: Range = FULL_RANGE

    @classmethod
    def from_plain(cls, values: Mapping[str, Any], where: str) -> "NetSpec":
        """Return the spec with values read from a file; sequences may be lists, and unknown keys are ignored.

        Raises:
            InputError: a value is missing or not allowed; the message names it.
        """
        spec = check_spec(values, where)
        return cls(spec.net, spec.image_size, spec.width_mult, tuple(spec.class_names), tuple(spec.source_ids),
                   tuple(spec.prior_sizes), spec.scores, spec.sixteen_bit_range)

    def build(self, seed: int = 0) -> SSD:
        """Return a new net of this kind."""
        return build_net(self.net, len(self.class_names), self.image_size, self.width_mult, self.prior_sizes, seed,
                         self.scores)

    def build_shapes(self) -> SSD:
        """Return a net without numbers, to compare shapes, without memory however many classes there are; do not change it."""
        return _build_shapes(self)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the state dict of such a net."""
        return {key: tuple(value.shape) for key, value in self.build_shapes().state_dict().items()}


@lru_cache(maxsize=4)
def _build_shapes(spec: NetSpec) -> SSD:
    with torch.device("meta"):
        return spec.build()


@dataclass(frozen=True)
class Model:
    """A trained net in evaluation mode, with its spec, its metadata and its postprocess values."""

    net: SSD
    spec: NetSpec
    about: dict[str, Any]
    postprocess: Postprocess = PUBLISHED


def save_model(path: Path, spec: NetSpec, weights: dict[str, Tensor], about: dict[str, Any],
               postprocess: Postprocess = PUBLISHED) -> None:
    """Write a trained detector, atomically.

    Args:
        path: usually MODEL_PATH.
        spec: of the net that the weights belong to.
        weights: the state dict of `spec.build()`.
        about: metadata as plain values: epochs, fingerprint, metrics, parameters.
        postprocess: the default values for users of the file.
    """
    content = {"format": MODEL_FORMAT, "spec": asdict(spec), "weights": weights, "about": about,
               "postprocess": postprocess.to_plain()}
    with atomic_write(path) as file:
        torch.save(content, file)


def load_model(path: Path = MODEL_PATH, device: torch.device | str = "cpu") -> Model:
    """Read a trained detector.

    Raises:
        StateError: the file is missing.
        InputError: it is not a model file of this project.
    """
    refuse_missing(path)
    content = read_torch_file(path, "a model file of this project, as `dvc repro train` makes it")
    if not isinstance(content, dict) or content.get("format") != MODEL_FORMAT:
        raise InputError(f"{path}: not a model file of this project: its format is not {MODEL_FORMAT!r}. `dvc repro train` "
                         "makes one; `ssd checkpoint convert` makes one from other weight files.")
    model = check(ModelSchema, content, str(path))
    return build_model(path, model.spec, model.weights, model.about, read_postprocess(model.postprocess, path), device)


def read_postprocess(values: Mapping[str, Any], path: Path) -> Postprocess:
    """Return the postprocess values that a file holds; the published ones for those that it lacks.

    Raises:
        InputError: a value is not allowed; the message names it.
    """
    check(PostprocessSchema, values, f"{path}: postprocess")
    return Postprocess.from_plain(values)


def refuse_missing(path: Path) -> None:
    """Raise StateError unless the file exists."""
    if not os.path.exists(path):  # False also if a parent folder cannot be read
        raise StateError(f"{path}: missing. `dvc repro train` makes it when training is complete.")


def build_model(path: Path, spec: Mapping[str, Any], weights: Mapping[str, Tensor], about: dict[str, Any],
                postprocess: Postprocess, device: torch.device | str) -> Model:
    """Return the detector with values read from a file.

    Raises:
        InputError: the net is unknown, or the weights do not fit it.
    """
    known = NetSpec.from_plain(spec, f"{path}: spec")
    if fault := misfit(weights, known.shapes()):
        raise InputError(f"{path}: its weights do not fit its net, {known.net}: {fault}. Use the version of this project that "
                         f"wrote it.")
    refuse_strange(weights, str(path))
    net = known.build()
    net.load_state_dict(weights)
    return Model(net.to(device).eval(), known, about, postprocess)


def read_torch_file(path: Path, expected: str) -> Any:
    """Return the content of a file written by torch.save, on the CPU, without executing pickled code.

    Args:
        path: the file.
        expected: what it should be, for the message: "a file of weights".

    Raises:
        InputError: it is missing or has other content than tensors and plain values; the message says what it is instead.
    """
    if reason := why_unreadable(path):
        raise InputError(f"{path}: {reason}; {expected} is needed. Check the path and the permissions.")
    refuse_bomb(path, str(path))
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path}: not {expected}: {_describe(path, error)}.") from error


def refuse_strange(tensors: Mapping[str, Any], where: str) -> None:
    """Raise InputError unless every entry of a state dict is a finite CPU tensor."""
    def is_good(name: str, value: Any) -> bool:
        if (not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized
                or value.numel() * value.element_size() > value.untyped_storage().nbytes()):
            return False
        return str(name).endswith("num_batches_tracked") or bool(value.is_floating_point() and value.isfinite().all())
    bad = next((name for name, value in tensors.items() if not is_good(name, value)), None)
    if bad is not None:
        raise InputError(f"{where}: '{shown_name(bad)}' is not a tensor of finite floating-point numbers; a net cannot be "
                         "initialised from it. Use another file.")


def _describe(path: Path, error: Exception) -> str:
    """Return what a file that torch cannot read is, and what to do."""
    with path.open("rb") as file:
        head = file.read(512).lstrip()
    if not head:
        return "it is empty. Download it again"
    if head.startswith(b"<"):
        return "it is a web page, probably from a failed download. Download it again, if necessary with a browser"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if not any(name.endswith("/data.pkl") for name in names):
            return (f"it is a zip archive of other files ({', '.join(names[:3])}). Extract it, and give the path of the file "
                    "inside")
    elif head.startswith(b"PK"):
        return "it is truncated or damaged. Download it again, and compare its size"
    if "Unsupported" in str(error) or "weights_only" in str(error):
        return "it has pickled objects besides its weights, and these are not loaded. Save only the state dict"
    return f"it is truncated, damaged or of another format ({type(error).__name__}: {first_line(error):.100})"
