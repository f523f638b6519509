"""models/ssd.pt: a finished detector in one file, plain values and tensors only, so that nothing is ever unpickled."""

import os
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssd_lib.errors import InputError, StateError
from ssd_lib.files import atomic_write
from ssd_lib.nets.postprocess import PUBLISHED, Postprocess
from ssd_lib.nets.ssd import SSD
from ssd_lib.nets.torch_file import read_torch_file
from ssd_lib.nets.zoo import NETS, build_net

MODEL_PATH = Path("models/ssd.pt")
MODEL_FORMAT = "ssd-model-1"


@dataclass(frozen=True)
class NetSpec:
    """What must be known to build a net and to read what it says.

    Attributes:
        net: a key of `NETS`.
        image_size: side of the square input in pixels.
        width_mult: width of the backbone.
        class_names: K names; label i is class_names[i - 1].
        source_ids: the K category ids of the data set that it was trained on.
        prior_sizes: as of `build_net`; none for the published ones.
    """

    net: str
    image_size: int
    width_mult: float
    class_names: tuple[str, ...]
    source_ids: tuple[int, ...]
    prior_sizes: tuple[float, ...] = ()

    @classmethod
    def from_plain(cls, values: Mapping[str, Any], where: str) -> "NetSpec":
        """From what a file holds, where sequences may be lists and more may stand beside.

        Raises:
            InputError: something is missing, or the net is not known.
        """
        found = [(field.name, values[field.name]) for field in fields(cls) if field.name in values]
        known: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in found}
        if missing := [field.name for field in fields(cls) if field.default is MISSING and field.name not in known]:
            raise InputError(f"{where}: does not say its {', '.join(missing)}; it is damaged, or of another version of this "
                             "project. Take the version that made it.")
        if known["net"] not in NETS:
            raise InputError(f"{where}: its net is {known['net']!r}; known are {', '.join(NETS)}. Take the version of this "
                             "project that made it.")
        return cls(**known)

    def build(self, seed: int = 0) -> SSD:
        """A new net of this kind."""
        return build_net(self.net, len(self.class_names), self.image_size, self.width_mult, self.prior_sizes, seed)


@dataclass(frozen=True)
class Model:
    """A trained net, in evaluation mode, how its output becomes detections, and what is known of it."""

    net: SSD
    spec: NetSpec
    about: dict[str, Any]
    postprocess: Postprocess = PUBLISHED


def save_model(path: Path, spec: NetSpec, weights: dict[str, Tensor], about: dict[str, Any],
               postprocess: Postprocess = PUBLISHED) -> None:
    """Write a finished detector, atomically.

    Args:
        path: mostly MODEL_PATH.
        spec: what the weights belong to.
        weights: the state dict of `spec.build()`.
        about: plain values: epochs, fingerprint, metrics, parameters.
        postprocess: how its output becomes detections wherever the file is used.
    """
    content = {"format": MODEL_FORMAT, "spec": asdict(spec), "weights": weights, "about": about,
               "postprocess": postprocess._asdict()}
    with atomic_write(path) as file:
        torch.save(content, file)


def load_model(path: Path = MODEL_PATH, device: torch.device | str = "cpu") -> Model:
    """Read a finished detector.

    Raises:
        StateError: it is not there.
        InputError: it is not a model file of this project.
    """
    refuse_missing(path)
    content = read_torch_file(path, "a model file of this project, as `dvc repro train` makes it")
    if not isinstance(content, dict) or content.get("format") != MODEL_FORMAT:
        raise InputError(f"{path}: not a model file of this project: its format is not {MODEL_FORMAT!r}. `dvc repro train` "
                         "makes one; `ssd checkpoint convert` makes one of another file of weights.")
    return build_model(path, content.get("spec", {}), content.get("weights", {}), content.get("about", {}),
                       Postprocess.from_plain(content.get("postprocess", {})), device)


def refuse_missing(path: Path) -> None:
    """Raise StateError, unless there is such a file."""
    if not os.path.exists(path):  # False, too, where a folder on the way cannot be read
        raise StateError(f"{path}: missing. `dvc repro train` makes it when training is complete.")


def build_model(path: Path, spec: Mapping[str, Any], weights: Mapping[str, Tensor], about: dict[str, Any],
                postprocess: Postprocess, device: torch.device | str) -> Model:
    """A detector from what a file holds.

    Raises:
        InputError: the net is not known, or the weights are not its own.
    """
    known = NetSpec.from_plain(spec, str(path))
    net = known.build()
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{path}: its weights are not those of its net, {known.net}: {str(error).splitlines()[-1].strip()}. "
                         "Take the version of this project that made it.") from error
    return Model(net.to(device).eval(), known, about, postprocess)
