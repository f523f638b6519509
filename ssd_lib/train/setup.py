"""From params.yaml and data/fixed to what a training run is given."""

import logging
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from torch import Tensor

from ssd_lib.annotations.fixed_set import FixedSet, load_fixed
from ssd_lib.boxes.prior_fit import GOOD_IOU, best_ious, fit_sizes
from ssd_lib.boxes.prior_levels import sizes_of
from ssd_lib.checkpoint.fingerprint import MODES, data_digest, make_fingerprint, resume_path
from ssd_lib.checkpoint.store import prune
from ssd_lib.checkpoint.weights import fit_weights, read_weights
from ssd_lib.data.augment import build_transform, file_of
from ssd_lib.data.balance import repeat_factors
from ssd_lib.data.dataset import DetectionDataset, try_transform
from ssd_lib.data.pixel_cache import open_cache
from ssd_lib.errors import InputError, StateError
from ssd_lib.files import in_project, write_json
from ssd_lib.images import FULL_RANGE, Range, find_range
from ssd_lib.manifest import FIXED_FOLDER, REPAIR_HINT, Manifest
from ssd_lib.nets.model_file import NetSpec
from ssd_lib.nets.pretrained import with_backbone_weights
from ssd_lib.nets.ssd import SSD, Scores
from ssd_lib.params import DataParams, ModelParams, Params, TrainParams
from ssd_lib.train.optimizer import with_rate
from ssd_lib.train.run_spec import Draw, Measure, RunSpec, WriteSamples, criterion_of

PRIORS_PATH = Path("reports/priors.json")
AUGMENTATION_FOLDER = "augmentation"  # a dep of the stage in dvc.yaml
FITTED_BOXES = 3000  # of a larger dataset so many boxes, evenly spread, are enough to fit sizes to
SIDES_PX = (0, 8, 16, 32, 64, 128, 256, 2048)  # bin edges of the report's table by box size
SMALL_PX = 32
log = logging.getLogger(__name__)


def make_run_spec(params: Params, manifest: Manifest, measure: Measure, draw: Draw, write_samples: WriteSamples) -> RunSpec:
    """Return the run without its starting point."""
    train = with_rate(params.train, params.model.net)
    if params.train.lr == "auto":
        log.info("train.lr: auto: %g for %s with %s and %d images a step", train.lr, params.model.net, train.optimizer,
                 train.batch_size)
    params = params.model_copy(update={"train": train})
    train_set, val_set = load_fixed("train"), load_fixed("val")
    for split in (train_set, val_set):
        _check_images(split, manifest)
    params_dict = params.model_dump(mode="json", include={"data", "fix", "model", "train", "postprocess"})
    digest = data_digest(FIXED_FOLDER)
    size, deep_range = params.model.image_size, training_range(params, manifest, train_set)
    return RunSpec(
        params, params_dict, replace(make_spec(params.model, params.train, train_set), sixteen_bit_range=deep_range),
        training_images(params, manifest, train_set, deep_range), repeat_factors_of(train_set, params.data),
        DetectionDataset(val_set, manifest.path, build_transform("none", size), deep_range=deep_range),
        digest, make_fingerprint(params_dict, digest), None, None, measure, draw, write_samples)


def with_start(run_spec: RunSpec) -> RunSpec:
    """Return the run with the checkpoint or the weights that it starts from, and log them. The caller holds the locks."""
    model, train, runtime = run_spec.params.model, run_spec.params.train, run_spec.params.runtime
    start = run_spec.choose_start()
    needed = [run_spec.resume_dir] if train.resume in MODES else [run_spec.resume_dir, resume_path(train.resume).parent]
    prune(run_spec.resume_dir.parent, needed, runtime.keep_runs, runtime.keep_days)
    weights = None if start is not None else initial_weights(run_spec.net_spec, model, train.seed)
    run_spec.write_samples(run_spec.train_set, run_spec.repeat_factors, train)
    report_priors(run_spec.net_spec.build(), run_spec.train_set.fixed, is_fitted=model.priors == "auto")
    return replace(run_spec, resume_from=start, weights=weights)


def spec_for_classes(model: ModelParams, train: TrainParams, names: tuple[str, ...], source_ids: tuple[int, ...]) -> NetSpec:
    """Return the net of params.yaml for some classes, with the published priors."""
    scores: Scores = "softmax" if criterion_of(model.net, train).class_loss == "multibox" else "sigmoid"
    return NetSpec(model.net, model.image_size, model.width_mult, names, source_ids, scores=scores)


def make_spec(model: ModelParams, train: TrainParams, fixed: FixedSet) -> NetSpec:
    """Return the net of params.yaml for the classes of a dataset, with priors fitted to its boxes if `model.priors` is auto."""
    spec = spec_for_classes(model, train, fixed.class_names, fixed.source_ids)
    if model.priors == "published":
        return spec
    net, boxes = spec.build(), _unit_boxes(fixed)
    some = boxes[np.linspace(0, len(boxes) - 1, min(len(boxes), FITTED_BOXES)).round().astype(int)]
    return replace(spec, prior_sizes=fit_sizes(some, net.prior_levels, net.map_sizes, net.image_size))


def training_range(params: Params, manifest: Manifest, fixed: FixedSet) -> Range:
    """Return the range of 16-bit images that params.yaml means for these training images, and log one that was measured."""
    setting = params.model.sixteen_bit_range
    deep_range = find_range(setting, [manifest.path(fixed.file_name(index)) for index in range(len(fixed))])
    if setting == "auto":
        log.info("model.sixteen_bit_range: auto: %s", "there are no 16-bit images" if deep_range == FULL_RANGE else
                 f"[{deep_range[0]}, {deep_range[1]}] in the training images")
    return deep_range


def training_images(params: Params, manifest: Manifest, fixed: FixedSet, deep_range: Range) -> DetectionDataset:
    """Return the training images with their augmentation, which was tried if it is that of a file."""
    size, augmentation = params.model.image_size, params.train.augmentation
    transform = build_transform(augmentation, size)
    pixels_of = open_cache(params.data.cache, size, fixed, manifest, deep_range)
    dataset = DetectionDataset(fixed, manifest.path, transform, params.train.seed, pixels_of, deep_range)
    if (path := file_of(augmentation)) is not None:
        log.info("augmentation %s: %s", augmentation, try_transform(dataset))
        if path.resolve().parent != in_project(AUGMENTATION_FOLDER).resolve():
            log.warning("dvc repro does not notice when %s changes; move it to %s/", augmentation, AUGMENTATION_FOLDER)
    return dataset


def repeat_factors_of(fixed: FixedSet, data: DataParams) -> np.ndarray:
    """Return (N,) how often an epoch shows each image; crowds are not counted."""
    counts = ~fixed.is_crowd
    return repeat_factors(fixed.image_indices()[counts], fixed.labels[counts], len(fixed), data.balance, data.balance_threshold)


def initial_weights(spec: NetSpec, model: ModelParams, seed: int) -> dict[str, Tensor] | None:
    """Return the weights of `model.weights` or, without it, of `model.backbone_weights`; None for new ones.

    `auto` takes ImageNet weights where they can be read or downloaded, and says so where they cannot.

    Raises:
        InputError: they cannot be read or downloaded, or are of another net.
    """
    if model.weights != "none":
        return fit_weights(read_weights(in_project(model.weights)), spec.build(seed), spec, model.weights)
    if model.backbone_weights == "none":
        return None
    is_auto = model.backbone_weights == "auto"
    try:
        weights, line = with_backbone_weights(spec.build(seed), spec.net, "imagenet" if is_auto else model.backbone_weights)
    except InputError as error:
        if not is_auto:
            raise
        log.warning("model.backbone_weights: auto: the backbone has new weights, since %s", error)
        return None
    log.info("%s", line)
    return weights


def report_priors(net: SSD, fixed: FixedSet, is_fitted: bool, path: Path = PRIORS_PATH) -> None:
    """Write how well the priors cover the objects of a dataset, and log a summary.

    An object whose best prior has an IoU below GOOD_IOU is still matched to that one prior, but is learned badly.
    """
    boxes = _unit_boxes(fixed)
    ious = best_ious(boxes, net.prior_levels, net.map_sizes, net.image_size)
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1)) * net.image_size
    good = ious >= GOOD_IOU
    write_json(path, {
        "priors": len(net.priors),
        "fitted": is_fitted,
        "sizes_px": [round(size * net.image_size, 1) for size in sizes_of(net.prior_levels)],
        "maps": [list(size) for size in net.map_sizes],
        "boxes": len(boxes),
        "recall": _mean(good),
        "mean_iou": _mean(ious),
        "by_side_px": [{"from": low, "to": high, "boxes": int(mask.sum()), "recall": _mean(good[mask]),
                        "mean_iou": _mean(ious[mask])}
                       for low, high in pairwise(SIDES_PX) if (mask := (sides >= low) & (sides < high)).any()],
    }, indent=1)
    small = sides < SMALL_PX
    of_small = f", {good[small].mean():.0%} of those under {SMALL_PX} px" if small.any() else ""
    log.info(f"priors: {good.mean():.0%} of the boxes fit one (IoU {GOOD_IOU}){of_small}; see {path}")


def _unit_boxes(fixed: FixedSet) -> np.ndarray:
    """Return (N, 4) float64, xyxy in [0, 1]: all objects without crowds."""
    counts = np.diff(fixed.box_offsets)
    sizes = np.repeat(fixed.sizes, counts, axis=0)[:, [1, 0, 1, 0]]
    return (fixed.boxes.astype(np.float64) / sizes)[~fixed.is_crowd]


def _mean(values: np.ndarray) -> float:
    return round(float(values.mean()), 4)


def _check_images(fixed: FixedSet, manifest: Manifest) -> None:
    """Check that every image exists with the size in the manifest."""
    def is_good(name: str) -> bool:
        path = manifest.path(name)
        return name in manifest.files and path.is_file() and path.stat().st_size == manifest.files[name][0]
    names = [fixed.file_name(index) for index in range(len(fixed))]
    bad = [name for name in names if not is_good(name)]
    if bad:
        raise StateError(f"{manifest.path(bad[0])}: missing, or its size differs from the manifest, and {len(bad) - 1} more "
                         f"of {len(names)}. {REPAIR_HINT}.")
