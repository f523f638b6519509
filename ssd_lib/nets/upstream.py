"""Weights of qfgaohao/pytorch-ssd and its descendants, under the names that ours have."""

from collections.abc import Mapping

from torch import Tensor

from ssd_lib.errors import InputError
from ssd_lib.nets.ssd import SSD

# The parts of upstream's nets in the order in which ours registers them; within a part the order is the same.
PARTS = ("base_net", "source_layer_add_ons", "extras", "classification_headers", "regression_headers")


def from_upstream(weights: Mapping[str, Tensor], net: SSD, where: str) -> dict[str, Tensor]:
    """Rename upstream's weights for `net`, which registers the same modules, part by part, in the same order.

    Args:
        weights: upstream's state dict.
        net: of the same kind, with the same number of classes.
        where: the file they come from, for the message.

    Raises:
        InputError: they are of another net or of other classes; the first that does not fit is named.
    """
    own = net.state_dict()
    strange = [name for name in weights if name.split(".")[0] not in PARTS]
    if strange:
        raise InputError(f"{where}: '{strange[0]}' is no name of qfgaohao/pytorch-ssd's weights, which begin with "
                         f"{', '.join(PARTS)}.")
    weights = dict(sorted(weights.items(), key=lambda item: PARTS.index(item[0].split(".")[0])))
    for (name, value), (ours, place) in zip(weights.items(), own.items(), strict=False):
        if value.shape != place.shape:
            raise InputError(f"{where}: its weights do not fit this net: '{name}' is {tuple(value.shape)}, and '{ours}' needs "
                             f"{tuple(place.shape)}. Check model.net, model.width_mult and the number of classes.")
    if len(weights) != len(own):
        raise InputError(f"{where}: its weights do not fit this net: {len(weights)} tensors, and the net has {len(own)}. "
                         "Check model.net.")
    return dict(zip(own, weights.values(), strict=True))
