"""Batch norms folded into the convolutions before them: the same function in less time, for nets that are trained no more."""

import copy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ssd_lib.nets.ssd import SSD


def fuse_batch_norms(net: SSD) -> SSD:
    """A copy of a net, in evaluation mode, whose batch norms are part of its convolutions.

    Guarantees: its outputs are those of `net` up to rounding (some 1e-6 of a logit).
    """
    fused = copy.deepcopy(net).eval()
    for module in list(fused.modules()):
        children = list(module.named_children())
        for (name, convolution), (next_name, norm) in pairwise(children):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(convolution, norm))
                setattr(module, next_name, nn.Identity())
    return fused
