"""Weights of qfgaohao/pytorch-ssd and its descendants: what our weights are called there, and the way there and back."""

import re
from collections.abc import Mapping
from functools import reduce

from torch import Tensor

from ssd_lib.errors import InputError

CLASS_HEADS = "class_heads."
HINT = "Check the net (model.net, or --net) and its width."
NAMES: tuple[tuple[str, str], ...] = (  # ours -> theirs; all rows are applied, one after the other
    (r"^backbone\.features\.", "base_net."),
    (r"^backbone\.norm\.", "source_layer_add_ons.0."),
    (r"^class_heads\.", "classification_headers."),
    (r"^box_heads\.", "regression_headers."),
    # MobileNetV2: torchvision nests what upstream has in a row; its first block does not expand
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
    # SqueezeNet: its last module makes an extra map here
    (r"^extras\.0\.0\.(squeeze|expand)", r"base_net.12.\1"),
    (r"^extras\.0\.1\.", "extras.0.0."),
    (r"^extras\.0\.3\.", "extras.0.2."),
)


def upstream_name(name: str) -> str:
    """What upstream calls a weight of one of the seven nets.

    Guarantees: names that differ in a net differ there, too.
    """
    return reduce(lambda text, row: re.sub(row[0], row[1], text), NAMES, name)


def to_upstream(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict under upstream's names; the inverse of `from_upstream`."""
    return {upstream_name(name): value for name, value in weights.items()}


def from_upstream(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Upstream's state dict under our names.

    Args:
        weights: theirs; a counter of batches may be missing, as in files of before 2018.
        own: our state dict of the same net, for its names and shapes. Class heads may have another number of classes.
        where: the file they come from, for the message.

    Raises:
        InputError: they are of another net; the first name or shape that does not fit is told.
    """
    names = {upstream_name(name): name for name in own}
    strange = next((name for name in weights if name not in names), None)
    if strange is not None:
        raise InputError(f"{where}: its weights are not this net's: '{strange}' has no place in it. {HINT}")
    missing = next((name for name in names if name not in weights and not name.endswith("num_batches_tracked")), None)
    if missing is not None:
        raise InputError(f"{where}: its weights are not this net's: '{missing}' is missing. {HINT}")
    for name, value in weights.items():
        place = own[names[name]]
        if value.shape != place.shape and not names[name].startswith(CLASS_HEADS):
            raise InputError(f"{where}: its weights are not this net's: '{name}' is {tuple(value.shape)}, and this net has "
                             f"{tuple(place.shape)} there. {HINT}")
    return {ours: weights.get(theirs, own[ours]) for theirs, ours in names.items()}
