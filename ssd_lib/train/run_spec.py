"""What a training run is given: data, net, parameters, and the checkpoint or the weights that it starts from."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ssd_lib.annotations.fixed_set import FixedSet
from ssd_lib.boxes.loss import Criterion
from ssd_lib.boxes.prior_fit import GOOD_IOU, best_ious, fit_sizes
from ssd_lib.boxes.prior_levels import sizes_of
from ssd_lib.checkpoint.file import CHECKPOINTS, ComboCheckpoint
from ssd_lib.checkpoint.fingerprint import differences
from ssd_lib.checkpoint.resume import choose_start
from ssd_lib.checkpoint.store import runs_folder
from ssd_lib.checkpoint.weights import fit_weights, read_weights
from ssd_lib.data.augment import build_transform, file_of
from ssd_lib.data.balance import repeat_factors
from ssd_lib.data.dataset import DetectionDataset, try_transform
from ssd_lib.data.loader import steps_per_epoch
from ssd_lib.data.pixel_cache import open_cache
from ssd_lib.distributed.collectives import all_gather_object, broadcast_object, rank_and_size
from ssd_lib.distributed.group import Group
from ssd_lib.errors import InputError
from ssd_lib.files import in_project, write_json
from ssd_lib.images import FULL_RANGE, Range, find_range
from ssd_lib.manifest import Manifest
from ssd_lib.nets.model_file import NetSpec
from ssd_lib.nets.pretrained import with_backbone_weights
from ssd_lib.nets.schema import misfit
from ssd_lib.nets.ssd import SSD, Scores, frozen_names
from ssd_lib.nets.zoo import NETS
from ssd_lib.params import DataParams, ModelParams, Params, TrainParams
from ssd_lib.train.state import TrainState, optimizer_fault, restore, snapshot

AUGMENTATION_FOLDER = "augmentation"  # a dep of the stage in dvc.yaml
PRIORS_PATH = Path("reports/priors.json")
FITTED_BOXES = 3000  # of a larger dataset so many boxes, evenly spread, are enough to fit sizes to
SIDES_PX = (0, 8, 16, 32, 64, 128, 256, 2048)  # bin edges of the report's table by box size
SMALL_PX = 32
ROW_KEYS = {"epoch", "train_loss", "val_loss", "images_per_s", "learning_rate"}  # of every epoch in a checkpoint's history
KEYS_OF_THE_END = ("epochs", "patience", "ap_every_epochs")  # of `train`; not in the fingerprint, but all must end together
Measure = Callable[..., Mapping[str, Any]]  # (net, dataset, device=) -> metrics, "AP" among them
Draw = Callable[..., np.ndarray]  # (net, dataset, indices=, device=) -> (H, W, 3) uint8
WriteSamples = Callable[[DetectionDataset, np.ndarray, TrainParams], None]  # (training images, repeat factors, train)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSpec:
    """Everything that a training process is given.

    Attributes:
        params_dict: the groups data, fix, model, train, postprocess of `params` as plain values.
        repeat_factors: (N,) how often an epoch shows each training image, on average.
        resume_from: the checkpoint to continue. It is not sent to other processes: large tensors cannot be pickled well.
        weights: to start from if nothing is continued; None for new ones.
        measure, draw: compute AP and draw detections in validation; passed in, so that training does not import evaluation.
        write_samples: draws training samples before training; passed in for the same reason.
    """

    params: Params
    params_dict: dict[str, Any]
    net_spec: NetSpec
    train_set: DetectionDataset
    repeat_factors: np.ndarray
    val_set: DetectionDataset
    data_digest: str
    fingerprint: str
    resume_from: ComboCheckpoint | None
    weights: dict[str, Tensor] | None
    measure: Measure
    draw: Draw
    write_samples: WriteSamples

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"resume_from": None}

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of steps of an epoch."""
        return steps_per_epoch(self.repeat_factors, self.params.train.batch_size)

    @property
    def criterion(self) -> Criterion:
        """Return the assignment and the losses: those that the net is made for, where params.yaml says auto."""
        return criterion_of(self.net_spec.net, self.params.train)

    @property
    def resume_dir(self) -> Path:
        """Return runs/resume/<fingerprint>, where DVC does not roll checkpoints back."""
        return runs_folder() / "resume" / self.fingerprint

    def choose_start(self) -> ComboCheckpoint | None:
        """Return the checkpoint to continue, as the disk is now."""
        return choose_start(self.params_dict, self.fingerprint, self.data_digest, asdict(self.net_spec), CHECKPOINTS,
                            self.resume_dir, self._fault_of,
                            frozen_names(self.net_spec.build_shapes(), self.params.train.freeze))

    def _fault_of(self, checkpoint: ComboCheckpoint) -> str:
        """Return why a checkpoint cannot be restored into a state of this run; "" if it can."""
        net = self.net_spec.build_shapes()
        shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
        if checkpoint.step > self.steps_per_epoch:
            return f"step: found {checkpoint.step}; an epoch has {self.steps_per_epoch} steps"
        if len(checkpoint.history) != checkpoint.epoch:
            return f"history: found {len(checkpoint.history)} epochs; epoch is {checkpoint.epoch}"
        if not all({key for key, value in row.items() if value is not None} >= ROW_KEYS for row in checkpoint.history):
            return f"history: an epoch lacks one of {', '.join(sorted(ROW_KEYS))}"
        if fault := misfit(checkpoint.weights, shapes):
            return f"weights: {fault}"
        averaged = {"n_averaged": ()} | {f"module.{key}": shape for key, shape in shapes.items()}
        if checkpoint.average and (fault := misfit(checkpoint.average, averaged)):
            return f"average: {fault}"
        return optimizer_fault(checkpoint, net, self.params.train)

    def check_machines_agree(self) -> None:
        """Check that all machines work on the same run.

        Raises:
            InputError: in all processes, if one machine has other parameters or data.
        """
        mine = {"params_dict": self.params_dict, "digest": self.data_digest,
                "run": [self.fingerprint, *(getattr(self.params.train, key) for key in KEYS_OF_THE_END)]}
        first, *others = all_gather_object(mine)
        for other in others:
            if other["run"] != first["run"]:
                keys = differences(first["params_dict"], other["params_dict"])
                pairs = zip(KEYS_OF_THE_END, other["run"][1:], first["run"][1:], strict=True)
                keys += [f"train.{key}" for key, its, our in pairs if its != our]
                keys += ["the bytes of data/fixed"] if other["digest"] != first["digest"] else []
                raise InputError("params.yaml: another machine would train another run; these differ: "
                                 f"{'; '.join(keys) or 'the files that it starts from'}. Copy params.yaml and data/ from the "
                                 "first machine to the others.")


def restore_run(state: TrainState, run_spec: RunSpec, group: Group) -> None:
    """Restore the state of the run: the first process reads it and sends it to the others.

    Args:
        state: new; is changed in place.
        run_spec: where our agent starts the processes, the first one chooses the checkpoint again: a restart may find a later
            one.
        group: the processes of the run.
    """
    rank, size = rank_and_size()
    if rank == 0:
        if group.restart > 0:
            log.info("\na training process died; restart %d of at most %d", group.restart, group.max_restarts)
        start = run_spec.resume_from if size == 1 or group.has_launcher else run_spec.choose_start()
        if start is not None:
            restore(state, start)
    if size > 1:
        now = snapshot(state, run_spec.net_spec, run_spec.fingerprint, run_spec.data_digest, run_spec.params_dict)
        shared = broadcast_object(now if rank == 0 else None)
        if rank > 0:
            restore(state, shared)


def criterion_of(net: str, train: TrainParams) -> Criterion:
    """Return the assignment and the losses of params.yaml; auto stands for what the net is made for."""
    asked = (train.assignment, train.class_loss, train.box_loss)
    return Criterion(*(own if word == "auto" else word for own, word in zip(NETS[net].criterion, asked, strict=True)))


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
    of_small = f", of the {small.sum()} with a side under {SMALL_PX} px {good[small].mean():.0%}" if small.any() else ""
    log.info(f"priors: {good.mean():.0%} of {len(boxes)} training boxes have an IoU of {GOOD_IOU} with one of "
             f"{len(net.priors)}{of_small}; see {path}")


def _unit_boxes(fixed: FixedSet) -> np.ndarray:
    """Return (N, 4) float64, xyxy in [0, 1]: all objects without crowds."""
    counts = np.diff(fixed.box_offsets)
    sizes = np.repeat(fixed.sizes, counts, axis=0)[:, [1, 0, 1, 0]]
    return (fixed.boxes.astype(np.float64) / sizes)[~fixed.is_crowd]


def _mean(values: np.ndarray) -> float:
    return round(float(values.mean()), 4)
