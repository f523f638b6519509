"""Read and write models/ssd.pt: a trained detector as plain values and tensors. Reading it executes no pickled code."""

import os
import zipfile
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssd_lib.errors import InputError, StateError, first_line
from ssd_lib.files import atomic_write, why_unreadable
from ssd_lib.nets.postprocess import PUBLISHED, Postprocess
from ssd_lib.nets.ssd import SSD
from ssd_lib.nets.zoo import NETS, build_net

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
    """

    net: str
    image_size: int
    width_mult: float
    class_names: tuple[str, ...]
    source_ids: tuple[int, ...]
    prior_sizes: tuple[float, ...] = ()

    @classmethod
    def from_plain(cls, values: Mapping[str, Any], where: str) -> "NetSpec":
        """Return the spec with values read from a file; sequences may be lists, and unknown keys are ignored.

        Raises:
            InputError: a value is missing, or the net is unknown.
        """
        found = [(field.name, values[field.name]) for field in fields(cls) if field.name in values]
        known: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in found}
        if missing := [field.name for field in fields(cls) if field.default is MISSING and field.name not in known]:
            raise InputError(f"{where}: lacks {', '.join(missing)}; it is damaged or from another version of this "
                             "project. Use the version that wrote it.")
        if known["net"] not in NETS:
            raise InputError(f"{where}: its net is {known['net']!r}; known are {', '.join(NETS)}. Use the version of this "
                             "project that wrote it.")
        return cls(**known)

    def build(self, seed: int = 0) -> SSD:
        """Return a new net of this kind."""
        return build_net(self.net, len(self.class_names), self.image_size, self.width_mult, self.prior_sizes, seed)


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
               "postprocess": postprocess._asdict()}
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
    return build_model(path, content.get("spec", {}), content.get("weights", {}), content.get("about", {}),
                       Postprocess.from_plain(content.get("postprocess", {})), device)


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
    known = NetSpec.from_plain(spec, str(path))
    net = known.build()
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{path}: its weights do not fit its net, {known.net}: {str(error).splitlines()[-1].strip()}. "
                         "Use the version of this project that wrote it.") from error
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
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path}: not {expected}: {_describe(path, error)}.") from error


def refuse_strange(tensors: Mapping[str, Any], where: str) -> None:
    """Raise InputError unless every entry of a state dict is a finite CPU tensor."""
    def is_good(name: str, value: Any) -> bool:
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
            return False
        return name.endswith("num_batches_tracked") or bool(value.is_floating_point() and value.isfinite().all())
    bad = next((name for name, value in tensors.items() if not is_good(name, value)), None)
    if bad is not None:
        raise InputError(f"{where}: '{bad}' is not a tensor of finite floating-point numbers; a net cannot be "
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
            return f"it is a zip archive of other files ({', '.join(names[:3])}). Extract it, and give the path of the file inside"
    elif head.startswith(b"PK"):
        return "it is truncated or damaged. Download it again, and compare its size"
    if "Unsupported" in str(error) or "weights_only" in str(error):
        return "it has pickled objects besides its weights, and these are not loaded. Save only the state dict"
    return f"it is truncated, damaged or of another format ({type(error).__name__}: {first_line(error):.100})"
