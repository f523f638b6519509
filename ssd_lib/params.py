"""Read and validate params.yaml as frozen values.

Every stage validates the whole file, so that a typo in `train` is found before anything is downloaded. A stage gets only the
groups that it names, the same that dvc.yaml lists as its `params`.
"""

import difflib
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from ssd_lib.errors import InputError
from ssd_lib.files import in_project, read_regular
from ssd_lib.plain_values import TileCount, deep_range
from ssd_lib.processes import has_cuda_driver

PARAMS_PATH = Path("params.yaml")

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Auto = Literal["auto"]
DEVICE_PATTERN = "auto|cpu|cuda(:[0-9]+)?"
Format = Literal["coco", "voc", "yolo", "open_images"]
ExportFormat = Literal["onnx", "openvino", "ncnn", "litert"]
PACKAGES = {  # of formats that requirements.txt has no package for: what runs them, and what else writes them
    "openvino": (("openvino",), ()),
    "ncnn": (("ncnn",), ("pnnx",)),
    "litert": (("ai-edge-litert",), ("litert-torch",)),
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
    whole = _check(path)
    return Params.model_construct(**{name: getattr(whole, name) for name in (*groups, "runtime")})


def missing_package(form: str, to_write: bool = True) -> str:
    """Return the packages that a format of `export.formats` needs and that are not installed; "" if all are.

    Args:
        form: an `ExportFormat`.
        to_write: also those with which it is written, not only run.
    """
    to_run, others = PACKAGES.get(form, ((), ()))
    return " ".join(package for package in (*to_run, *others * to_write) if not find_spec(package.replace("-", "_")))


def formats_fault(formats: Iterable[str]) -> str:
    """Return that packages for these formats are missing, and how to install them; "" if none are."""
    missing = {form: packages for form in formats if (packages := missing_package(form))}
    if not missing:
        return ""
    return (f"export.formats has {', '.join(missing)}, and packages for it are not installed: "
            f"`pip install {' '.join(missing.values())}`, or leave it out")


WORDS_FOR_FILES = {  # what stands in place of the path of a file
    "model.backbone_weights": ("none", "auto", "imagenet"),
    "model.weights": ("none",),
    "train.augmentation": ("ssd", "ssdlite", "light", "none"),
    "train.resume": ("auto", "never"),
}


def check_before_download(path: Path = PARAMS_PATH, imagenet_fault: Callable[[str], str] = lambda _: "") -> None:
    """Check now what only a later stage needs, so that it is not noticed after hours of downloading.

    The first stage calls it. It does not depend on these values, so that changing them runs it no second time: train checks
    them again.

    Args:
        path: the file.
        imagenet_fault: returns why there are no ImageNet weights for a net; "" if there are.

    Raises:
        InputError: a file of weights or of augmentation is missing, or ImageNet weights or a package for export.formats
            are, or there is no CUDA device.
    """
    params, faults = _check(path), []
    values = {"model.backbone_weights": params.model.backbone_weights, "model.weights": params.model.weights,
              "train.augmentation": params.train.augmentation, "train.resume": params.train.resume}
    for key, words in WORDS_FOR_FILES.items():
        if (value := values[key]) not in words and not in_project(value).is_file():
            faults.append(f"{key} is '{value}', which is not a file; it must be {', '.join(words)} or the path of a file")
    model = params.model
    if model.backbone_weights == "imagenet" and model.weights == "none" and (fault := imagenet_fault(model.net)):
        faults.append(fault)
    if params.runtime.device.startswith("cuda") and not has_cuda_driver():
        faults.append(f"runtime.device is '{params.runtime.device}' and this machine has no CUDA driver; set auto or cpu")
    faults += filter(None, [formats_fault(params.export.formats)])
    if faults:
        raise InputError("\n  ".join([f"{path}: nothing was downloaded.", *faults]))


def batch_warning(images: int, path: Path = PARAMS_PATH) -> str:
    """Return a line of warning if the training images are fewer than a batch; "" if they are not."""
    batch = _check(path).train.batch_size
    return "" if images >= batch else (f"\nWARNING train.batch_size is {batch}, and there are {images} training images: a step "
                                       f"shows images more than once. Set it to {images} or less.")


def _check(path: Path) -> Params:
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
        lines = _sentences(error.errors())
        head = f"{path}: 1 fault" if len(lines) == 1 else f"{path}: {len(lines)} faults"
        raise InputError("\n  ".join([f"{head}; nothing was run.", *lines])) from error


def _sentences(faults: list[ErrorDetails]) -> list[str]:
    """Return pydantic's errors as lines of the message; those of the members of a union are one."""
    lines: dict[str, tuple[list[str], str]] = {}
    for fault in faults:
        place = [str(part) for part in fault["loc"]]
        dotted = ".".join(place[:2]) if "auto" in place[-1] or "constrained" in place[-1] else ".".join(place)
        head, should_be, rest = _sentence(fault, place, dotted).partition(" should be ")
        allowed, found, value = rest.partition(", found ")
        lines.setdefault(head + should_be, ([], found + value))[0].append(allowed.split(", unable to")[0])
    return [head + " or ".join(allowed) + found for head, (allowed, found) in lines.items()]


def _sentence(fault: ErrorDetails, place: list[str], dotted: str) -> str:
    """Return one of pydantic's errors as a line of the message."""
    if fault["type"] == "extra_forbidden":
        known = _known_keys(place[:-1])
        near = difflib.get_close_matches(place[-1], known, n=1)
        return f"unknown key '{dotted}'; " + (f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}")
    if fault["type"] == "missing":
        return f"missing key '{dotted}'; `git show HEAD:params.yaml` shows it with its comment"
    if fault["type"] == "value_error":
        return f"{dotted}: {fault['msg'].removeprefix('Value error, ')}"
    hint = f"; write [{fault['input']}]" if fault["type"] == "list_type" and isinstance(fault["input"], str) else ""
    return f"{dotted}: {fault['msg'][0].lower()}{fault['msg'][1:]}, found {fault['input']!r}{hint}"


def _known_keys(place: list[str]) -> list[str]:
    model: Any = Params
    for part in place:
        model = model.model_fields[part].annotation
    return list(model.model_fields)
