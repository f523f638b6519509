"""Pretrained weights of a backbone: ImageNet weights of torchvision or of a package, or a file with the same layout."""

from collections.abc import Mapping
from typing import cast

from torch import Tensor
from torchvision.models import get_weight

from ssd_lib.errors import InputError
from ssd_lib.files import in_project
from ssd_lib.nets.imagenet import KEY, imagenet_weights, packaged_file
from ssd_lib.nets.model_file import read_torch_file, refuse_strange
from ssd_lib.nets.rewrite import rescale_input
from ssd_lib.nets.ssd import SSD
from ssd_lib.nets.zoo import NETS

BACKBONE = "backbone."


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


def _imagenet(net: str) -> tuple[str, Mapping[str, Tensor]]:
    weights = imagenet_weights(net)
    if weights.package:
        return weights.name, cast(Mapping[str, Tensor], read_torch_file(packaged_file(weights), "a file of weights"))
    of_torchvision = get_weight(weights.name)
    try:
        return weights.name, of_torchvision.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network, or a wrong hash
        raise InputError(f"params.yaml: {KEY}: cannot download {of_torchvision.url} ({error}). Download that file on another "
                         "machine and give its path, or set none.") from error


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
