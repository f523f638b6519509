"""models/ssd.pt: a finished detector in one file, plain values and tensors only, so that nothing is ever unpickled."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssd_lib.errors import InputError, StateError
from ssd_lib.files import atomic_write
from ssd_lib.nets.ssd import SSD
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
    """

    net: str
    image_size: int
    width_mult: float
    class_names: tuple[str, ...]
    source_ids: tuple[int, ...]

    def build(self, seed: int = 0) -> SSD:
        """A new net of this kind."""
        return build_net(self.net, len(self.class_names), self.image_size, self.width_mult, seed)


@dataclass(frozen=True)
class Model:
    """A trained net, in evaluation mode, and what is known of it."""

    net: SSD
    spec: NetSpec
    about: dict[str, Any]


def save_model(path: Path, spec: NetSpec, weights: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write a finished detector, atomically.

    Args:
        path: mostly MODEL_PATH.
        spec: what the weights belong to.
        weights: the state dict of `spec.build()`.
        about: plain values: epochs, fingerprint, metrics, parameters.
    """
    content = {"format": MODEL_FORMAT, "spec": asdict(spec), "weights": weights, "about": about}
    with atomic_write(path) as file:
        torch.save(content, file)


def load_model(path: Path = MODEL_PATH, device: torch.device | str = "cpu") -> Model:
    """Read a finished detector.

    Raises:
        StateError: it is not there.
        InputError: it is not a model file of this project.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(content, dict) or content.get("format") != MODEL_FORMAT:
            raise ValueError(f"its format is not {MODEL_FORMAT!r}")
        spec = NetSpec(**content["spec"])
        if spec.net not in NETS:
            raise ValueError(f"its net is {spec.net!r}; known are {', '.join(NETS)}")
        net = spec.build()
        net.load_state_dict(content["weights"])
    except FileNotFoundError as error:
        raise StateError(f"{path}: missing. `dvc repro train` makes it when training is complete.") from error
    except Exception as error:
        raise InputError(f"{path}: not a model file of this project ({type(error).__name__}: {_first_line(error)}). "
                         "`dvc repro train` makes one.") from error
    return Model(net.to(device).eval(), spec, content["about"])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
