"""What a run begins from: priors, weights, and what both mean for the data at hand."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ssd_lib.annotations.fixed_set import FixedSet
from ssd_lib.boxes.prior_fit import GOOD_IOU, best_ious, fit_sizes
from ssd_lib.boxes.priors import sizes_of
from ssd_lib.checkpoint.weights import fit_weights, read_weights
from ssd_lib.data.balance import show_factors
from ssd_lib.files import in_project, write_json
from ssd_lib.nets.model_file import NetSpec
from ssd_lib.nets.pretrained import with_backbone_weights
from ssd_lib.nets.ssd import SSD
from ssd_lib.params import DataParams, ModelParams

PRIORS_PATH = Path("reports/priors.json")
FITTED_BOXES = 3000  # of a larger data set, evenly spread, are enough to fit sizes to
SIDES_PX = (0, 8, 16, 32, 64, 128, 256, 2048)  # where the report cuts boxes by size
SMALL_PX = 32


def make_spec(model: ModelParams, fixed: FixedSet) -> NetSpec:
    """The net that params.yaml asks for, for the classes of a data set, and with priors for its boxes where they are to be
    fitted."""
    spec = NetSpec(model.net, model.image_size, model.width_mult, fixed.class_names, fixed.source_ids)
    if model.priors == "published":
        return spec
    net, boxes = spec.build(), _unit_boxes(fixed)
    some = boxes[np.linspace(0, len(boxes) - 1, min(len(boxes), FITTED_BOXES)).round().astype(int)]
    return replace(spec, prior_sizes=fit_sizes(some, net.rows, net.map_sizes, net.image_size))


def balance_of(fixed: FixedSet, data: DataParams) -> np.ndarray:
    """(N,) how often an epoch shows each image; crowds have no say."""
    counts = ~fixed.is_crowd
    return show_factors(fixed.owners()[counts], fixed.labels[counts], len(fixed), data.balance, data.balance_threshold)


def initial_weights(spec: NetSpec, model: ModelParams, seed: int) -> tuple[dict[str, Tensor] | None, list[str]]:
    """The weights that `model.weights` or, without it, `model.backbone_weights` asks for, None for new ones; and lines to tell
    the user.

    Raises:
        InputError: they cannot be had, or are of another net.
    """
    if model.weights != "none":
        return fit_weights(read_weights(in_project(model.weights)), spec.build(seed), spec, model.weights)
    if model.backbone_weights != "none":
        weights, line = with_backbone_weights(spec.build(seed), spec.net, model.backbone_weights)
        return weights, [line]
    return None, []


def report_priors(net: SSD, fixed: FixedSet, is_fitted: bool, path: Path = PRIORS_PATH) -> str:
    """Write how well the priors cover the objects of a data set, and give the same as a line.

    An object whose best prior overlaps it by less than GOOD_IOU is still matched to that one prior, but learns badly.
    """
    boxes = _unit_boxes(fixed)
    ious = best_ious(boxes, net.rows, net.map_sizes, net.image_size)
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1)) * net.image_size
    good = ious >= GOOD_IOU
    write_json(path, {
        "priors": len(net.priors),
        "fitted": is_fitted,
        "sizes_px": [round(size * net.image_size, 1) for size in sizes_of(net.rows)],
        "maps": [list(size) for size in net.map_sizes],
        "boxes": len(boxes),
        "recall": _mean(good),
        "mean_iou": _mean(ious),
        "by_side_px": [_row(low, high, good[mask], ious[mask])
                       for low, high in pairwise(SIDES_PX)
                       if (mask := (sides >= low) & (sides < high)).any()],
    }, indent=1)
    small = sides < SMALL_PX
    of_small = f", of the {small.sum()} with a side under {SMALL_PX} px {good[small].mean():.0%}" if small.any() else ""
    return (f"priors: {good.mean():.0%} of {len(boxes)} training boxes have an IoU of {GOOD_IOU} with one of {len(net.priors)}"
            f"{of_small}; see {path}")


def _unit_boxes(fixed: FixedSet) -> np.ndarray:
    """(N, 4) float64, xyxy in [0, 1]: all objects, without crowds."""
    counts = np.diff(fixed.box_offsets)
    sizes = np.repeat(fixed.sizes, counts, axis=0)[:, [1, 0, 1, 0]]
    return (fixed.boxes.astype(np.float64) / sizes)[~fixed.is_crowd]


def _row(low: int, high: int, good: np.ndarray, ious: np.ndarray) -> Mapping[str, Any]:
    return {"from": low, "to": high, "boxes": len(good), "recall": _mean(good), "mean_iou": _mean(ious)}


def _mean(values: np.ndarray) -> float:
    return round(float(values.mean()), 4)
