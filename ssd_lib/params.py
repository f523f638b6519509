"""Read and validate params.yaml as frozen values.

Every stage validates the whole file, so that a typo in `train` is found before anything is downloaded. A stage gets only the
groups that it names, the same that dvc.yaml lists as its `params`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ssd_lib.errors import InputError
from ssd_lib.files import read_regular
from ssd_lib.params_faults import sentences
from ssd_lib.plain_values import TileCount, deep_range

PARAMS_PATH = Path("params.yaml")

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Auto = Literal["auto"]
DEVICE_PATTERN = "auto|cpu|cuda(:[0-9]+)?"
Format = Literal["coco", "voc", "yolo", "open_images"]
ExportFormat = Literal["onnx", "openvino", "ncnn", "litert"]
WORDS_FOR_FILES = {  # what stands in place of the path of a file
    "model.backbone_weights": ("none", "auto", "imagenet"),
    "model.weights": ("none",),
    "train.augmentation": ("ssd", "ssdlite", "light", "none"),
    "train.resume": ("auto", "never"),
}


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _known_formats(value: Any) -> Any:
    """Check names of formats here: pydantic would report an error for each member of the union."""
    names = value if isinstance(value, list) else [value]
    known = (*get_args(Auto), *get_args(Format))
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{unknown[0]!r} is not a format; it must be one of {', '.join(known)}, or a list with one for each "
                         f"path")
    return value


def _known_range(value: Any) -> Any:
    """Check it here: pydantic would report an error for each member of the union."""
    if value in ("full", "auto"):
        return value
    try:
        return deep_range(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is not full or auto, and no [low, high]: {error}") from error


class DataParams(_Group):
    """The dataset and its source."""

    source: Literal["demo", "coco2017", "open_images", "local"]
    format: Annotated[Auto | Format | list[Auto | Format], BeforeValidator(_known_formats)]
    paths: list[str]
    classes: list[Annotated[str, Field(min_length=1)]]
    val_fraction: Annotated[float, Field(gt=0, lt=1)]
    base_url: Annotated[str, Field(pattern=r"^(auto|https?://\S+)$")]
    splits: list[Literal["train", "val", "test"]]
    max_images: Annotated[int, Field(ge=0)]
    max_boxes_per_class: Annotated[int, Field(ge=0)]
    depictions: bool
    balance: Literal["none", "downsample", "repeat"]
    balance_threshold: Auto | Annotated[float, Field(gt=0, le=1)]
    cache: Literal["none", "jpeg", "raw"]
    demo_images: tuple[Annotated[int, Field(ge=4)], Annotated[int, Field(ge=4)]]
    max_bad_fraction: Fraction

    @model_validator(mode="after")
    def _check_splits(self) -> "DataParams":
        if not {"train", "val"} <= set(self.splits):
            raise ValueError(f"splits is {self.splits}; it must contain train and val")
        return self

    @model_validator(mode="after")
    def _check_source(self) -> "DataParams":
        if self.source == "local" and not self.paths:
            raise ValueError("paths is empty; source: local needs folders or zip files, e.g. [/my/data]")
        if isinstance(self.format, list) and len(self.format) != len(self.paths):
            raise ValueError(f"format has {len(self.format)} entries and paths {len(self.paths)}; give one format for all "
                             f"paths, or one for each")
        return self


class FixParams(_Group):
    """Repair of annotations."""

    min_box_px: Annotated[float, Field(gt=0)]


class ModelParams(_Group):
    """The net, by its name in `ssd_lib.nets.zoo`, and its initial weights."""

    net: Literal["vgg16-ssd", "mb1-ssd", "mb1-ssd-lite", "mb2-ssd-lite", "mb3-large-ssd-lite", "mb3-small-ssd-lite",
                 "sq-ssd-lite", "lite0-ssd-lite", "lite0-fpn", "mb2-fpn", "tv-mb3-large-ssd-lite", "tv-mb3-small-ssd-lite",
                 "resnet34-ssd", "resnet50-ssd"]
    image_size: Annotated[int, Field(ge=64, le=1024)]
    width_mult: Annotated[float, Field(ge=0.1, le=4)]
    priors: Literal["published", "auto"]
    sixteen_bit_range: Annotated[Literal["full"] | Auto | tuple[int, int], BeforeValidator(_known_range)]
    backbone_weights: Annotated[str, Field(min_length=1)]
    weights: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _check_width(self) -> "ModelParams":
        if self.width_mult != 1 and self.net not in ("mb2-ssd-lite", "mb2-fpn"):
            raise ValueError(f"width_mult is {self.width_mult:g}; {self.net} has only the width 1.0")
        return self


class TrainParams(_Group):
    """Training.

    A changed value starts a new run, except for those in `checkpoint.fingerprint.NOT_IN_FINGERPRINT`, such as `epochs`.
    """

    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    micro_batch: Auto | Annotated[int, Field(ge=2)]
    lr: Auto | Annotated[float, Field(gt=0)]
    backbone_lr: Auto | Annotated[float, Field(gt=0)]
    extras_lr: Auto | Annotated[float, Field(gt=0)]
    freeze: Literal["none", "stem", "backbone", "all-but-heads"]
    assignment: Literal["auto", "iou", "atss"]
    class_loss: Literal["auto", "multibox", "focal", "quality"]
    box_loss: Literal["auto", "smooth_l1", "giou"]
    optimizer: Literal["sgd", "adam"]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    decay_norms: bool
    schedule: Literal["cosine", "multistep", "constant"]
    milestones: list[Fraction]
    gamma: Annotated[float, Field(gt=0, le=1)]
    warmup_epochs: Annotated[float, Field(ge=0)]
    clip_grad_norm: Annotated[float, Field(ge=0)]
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    deterministic: bool
    compile: bool
    sync_batch_norm: bool
    augmentation: Annotated[str, Field(min_length=1)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    resume: Annotated[str, Field(min_length=1)]
    checkpoint_minutes: Annotated[float, Field(gt=0)]
    ap_every_epochs: Annotated[int, Field(ge=0)]
    select: Literal["last", "best"]
    patience: Annotated[int, Field(ge=0)]

    @property
    def peak_rate(self) -> float:
        """Return `lr` where it is a number; `train.optimizer.with_rate` makes it one."""
        assert self.lr != "auto"
        return self.lr


class PostprocessParams(_Group):
    """Thresholds and limits for detections, stored in the model file; see `ssd_lib.boxes.selection.Postprocess`."""

    score_threshold: Fraction
    nms_iou: Fraction
    top_k_per_class: Count
    max_detections: Count
    tiles: TileCount
    vote_iou: Fraction


class EvalParams(_Group):
    """Evaluation of the trained model."""

    batch_size: Count
    pictures: Annotated[int, Field(ge=0)]


class ExportParams(_Group):
    """Export of the trained model."""

    opset: Annotated[int, Field(ge=18, le=23)]
    nms: bool
    int8: bool
    formats: list[ExportFormat]
    dynamic_batch: bool


class RuntimeParams(_Group):
    """Settings of this machine, which do not change the result (but `threads` its last bits)."""

    device: Annotated[str, Field(pattern=f"^({DEVICE_PATTERN})$")]
    workers: Auto | Annotated[int, Field(ge=0)]
    threads: Auto | Annotated[int, Field(ge=1, le=1024)]
    processes: Auto | Count
    max_restarts: Annotated[int, Field(ge=0)]
    nodes: Count
    rendezvous: Annotated[str, Field(pattern=r"^(auto|[^\s:]+:\d{1,5})$")]
    downloads: Count
    keep_runs: Annotated[int, Field(ge=0)]
    keep_days: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _check_rendezvous(self) -> "RuntimeParams":
        if self.nodes > 1 and self.rendezvous == "auto":
            raise ValueError(f"nodes is {self.nodes} and rendezvous auto; several machines need HOST:PORT of the first, e.g. "
                             "192.168.0.10:29400")
        return self


class Params(_Group):
    """All groups of params.yaml."""

    data: DataParams
    fix: FixParams
    model: ModelParams
    train: TrainParams
    postprocess: PostprocessParams
    eval: EvalParams
    export: ExportParams
    runtime: RuntimeParams


def load_params(*groups: str, path: Path = PARAMS_PATH) -> Params:
    """Read and validate params.yaml, and return the named groups and `runtime`.

    Args:
        groups: names of groups; the result has no other attributes, so that a stage cannot use values that it does not list.
        path: the file.

    Raises:
        InputError: the file is missing, is not YAML or has faults; the message has all of them.
    """
    whole = read_params(path)
    return Params.model_construct(**{name: getattr(whole, name) for name in (*groups, "runtime")})


def read_params(path: Path = PARAMS_PATH) -> Params:
    """Read and validate params.yaml, and return all groups. A stage uses it only to tell its user about later ones.

    Raises:
        InputError: see `load_params`.
    """
    try:
        return check_params(read_regular(path), path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing. Run from the root of the project, or `git checkout {path}`.") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. It must be a file: `git checkout {path}`.") from error


def check_params(content: bytes, path: Path) -> Params:
    """Return the values of the content of a params file, or raise InputError, which names `path`; see `load_params`."""
    try:
        tree = yaml.safe_load(content.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise InputError(f"{path}: not a mapping of groups, but {type(tree).__name__}. "
                         "`git show HEAD:params.yaml` shows the expected form.")
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        lines = sentences(error.errors(), Params)
        head = f"{path}: 1 fault" if len(lines) == 1 else f"{path}: {len(lines)} faults"
        raise InputError("\n  ".join([f"{head}; nothing was run.", *lines])) from error
