"""Convert state dicts between our names and those of qfgaohao/pytorch-ssd ("upstream") and its forks."""

import re
from collections.abc import Mapping
from functools import reduce

from torch import Tensor

from ssd_lib.errors import InputError

CLASS_HEADS = "class_heads."
HINT = "Check the net (model.net, or --net) and its width."
NAMES: tuple[tuple[str, str], ...] = (  # (pattern, replacement) from our names to upstream's, all applied in order
    (r"^backbone\.features\.", "base_net."),
    (r"^backbone\.norm\.", "source_layer_add_ons.0."),
    (r"^class_heads\.", "classification_headers."),
    (r"^box_heads\.", "regression_headers."),
    # MobileNetV2: torchvision nests layers that are flat in upstream; the first block has no expansion
    (r"^base_net\.1\.conv\.2\.", "base_net.1.conv.4."),
    (r"\.conv\.2\.", ".conv.6."),
    (r"\.conv\.3\.", ".conv.7."),
    (r"^base_net\.1\.conv\.1\.", "base_net.1.conv.3."),
    (r"\.conv\.1\.0\.", ".conv.3."),
    (r"\.conv\.1\.1\.", ".conv.4."),
    (r"\.conv\.0\.([01])\.", r".conv.\1."),
    # MobileNetV3
    (r"\.expand\.0\.", ".conv1."),
    (r"\.expand\.1\.", ".bn1."),
    (r"\.depthwise\.0\.", ".conv2."),
    (r"\.depthwise\.1\.", ".bn2."),
    (r"\.project\.0\.", ".conv3."),
    (r"\.project\.1\.", ".bn3."),
    # SqueezeNet: its last module is part of the first extra map here
    (r"^extras\.0\.0\.(squeeze|expand)", r"base_net.12.\1"),
    (r"^extras\.0\.1\.", "extras.0.0."),
    (r"^extras\.0\.3\.", "extras.0.2."),
)


def upstream_name(name: str) -> str:
    """Return upstream's name of a weight of one of the seven nets.

    Guarantees: different names of a net have different upstream names.
    """
    return reduce(lambda text, row: re.sub(row[0], row[1], text), NAMES, name)


def to_upstream(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return our state dict with upstream's names; the inverse of `from_upstream`."""
    return {upstream_name(name): value for name, value in weights.items()}


def from_upstream(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return upstream's state dict with our names.

    Args:
        weights: upstream's state dict; `num_batches_tracked` may be missing, as in files from before 2018.
        own: our state dict of the same net, for its names and shapes. Class heads may have another number of classes.
        where: the file of the weights, for messages.

    Raises:
        InputError: the weights are of another net; the message has the first name or shape that does not fit.
    """
    names = {upstream_name(name): name for name in own}
    unknown = next((name for name in weights if name not in names), None)
    if unknown is not None:
        raise InputError(f"{where}: its weights are not this net's: the net has no '{unknown}'. {HINT}")
    missing = next((name for name in names if name not in weights and not name.endswith("num_batches_tracked")), None)
    if missing is not None:
        raise InputError(f"{where}: its weights are not this net's: '{missing}' is missing. {HINT}")
    for name, value in weights.items():
        tensor = own[names[name]]
        if value.shape != tensor.shape and not names[name].startswith(CLASS_HEADS):
            raise InputError(f"{where}: its weights are not this net's: '{name}' has the shape {tuple(value.shape)}; "
                             f"in this net it is {tuple(tensor.shape)}. {HINT}")
    return {ours: weights.get(theirs, own[ours]) for theirs, ours in names.items()}
