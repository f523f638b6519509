"""Read detector weights from any kind of file, put them into a net, and convert between kinds of files."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssd_lib.annotations.fixed_set import BACKGROUND_NAME
from ssd_lib.boxes.selection import PUBLISHED, Postprocess
from ssd_lib.checkpoint.file import CHECKPOINT_FORMAT, ComboCheckpoint, read_checkpoint
from ssd_lib.checkpoint.kaboom import read_kaboom
from ssd_lib.errors import InputError, plural
from ssd_lib.files import atomic_write, read_regular
from ssd_lib.nets.model_file import (
    MODEL_FORMAT,
    Model,
    NetSpec,
    build_model,
    read_postprocess,
    read_torch_file,
    refuse_missing,
    refuse_strange,
    save_model,
)
from ssd_lib.nets.rewrite import rescale_input
from ssd_lib.nets.schema import ModelSchema
from ssd_lib.nets.ssd import SSD
from ssd_lib.nets.upstream import CLASS_HEADS, from_upstream, to_upstream
from ssd_lib.nets.zoo import NETS
from ssd_lib.plain_values import check, shown_name

WANTED = "weights of a detector (a combo checkpoint, an ssd.pt, or a .pth of qfgaohao, dusty-nv or kaboom-labs)"
KABOOM = "kaboom-labs/pytorch-ssd"
UNIT_PIXELS = ((0.0,) * 3, (255.0,) * 3)  # mean and std of training code that divides by 255
SMALLEST_PX, LARGEST_PX = 64, 1024  # as for model.image_size
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeightsFile:
    """The content of a file of weights.

    Attributes:
        kind: whose file it is, for messages.
        tensors: under our names if there is a spec, else under upstream's.
        spec: of their net; None if the file does not contain one.
        saw_unit_pixels: they were trained on pixels in [0, 1] instead of normalised ones.
        about: what else is known, as in models/ssd.pt.
        postprocess: as in models/ssd.pt; the defaults in files that do not say.
    """

    kind: str
    tensors: dict[str, Tensor]
    spec: NetSpec | None = None
    saw_unit_pixels: bool = False
    about: Mapping[str, Any] | None = None
    postprocess: Postprocess = PUBLISHED


def read_weights(path: Path) -> WeightsFile:
    """Read a file of weights of any kind in `WANTED`. Nothing in it is executed.

    Raises:
        InputError: it is missing, damaged, or something else.
    """
    try:
        content = read_torch_file(path, WANTED)
    except InputError as error:
        try:  # torch refuses kaboom's files, which hold a scheduler object
            file = WeightsFile(KABOOM, read_kaboom(path).weights, saw_unit_pixels=True)
        except InputError:
            raise error from None
    else:
        file = _recognise(content, path)
    refuse_strange(file.tensors, str(path))
    return file


def fit_weights(file: WeightsFile, net: SSD, spec: NetSpec, where: str) -> dict[str, Tensor]:
    """Return the state dict of `net` with the weights of a file in it, and log what was loaded.

    Class heads stay as they are in `net` if the classes of the file differ; everything else must fit.

    Args:
        file: from `read_weights`.
        net: with new weights.
        spec: of that net.
        where: the name of the file, for messages.

    Raises:
        InputError: the weights are of another net.
    """
    own = net.state_dict()
    if file.spec is None:
        weights = from_upstream(file.tensors, own, where)
    else:
        _check_same_net(file.tensors, file.spec, spec, own, where)
        weights = file.tensors
    if file.saw_unit_pixels:
        weights = rescale_input(weights, net, *UNIT_PIXELS)
    reason = _class_difference(file, weights, own, net, spec)
    lines = [f"  {part:12} {count:4} tensors {'new: ' + reason if reason and part + '.' == CLASS_HEADS else 'loaded'}"
             for part, count in Counter(key.split(".")[0] for key in own).items()]
    log.info("\n".join([f"weights of {where} ({file.kind}):", *lines]))
    _log_notes(file, reason, net, spec)
    return {key: own[key] if reason and key.startswith(CLASS_HEADS) else value for key, value in weights.items()}


def open_model(path: Path, device: torch.device | str = "cpu") -> Model:
    """Return the detector in an ssd.pt or in a combo checkpoint, in evaluation mode on `device`.

    Raises:
        StateError: the file does not exist.
        InputError: it is another kind of file; upstream's do not name their net and classes.
    """
    refuse_missing(path)
    file = read_weights(path)
    if file.spec is None:
        raise InputError(f"{path}: weights of {file.kind}, which do not name their net and their classes. Convert them first: "
                         f"ssd checkpoint convert {path} ssd.pt --net mb1-ssd --labels labels.txt")
    return build_model(path, vars(file.spec), file.tensors, dict(file.about or {}), file.postprocess, device)


def convert(source: Path, target: Path, net: str | None, labels: Path | None, image_size: int) -> None:
    """Write `target`: a model file of ours if its name ends in .pt, a state dict under upstream's names if in .pth.

    Args:
        source: any file that `read_weights` reads.
        target: must not exist.
        net, labels, image_size: for a source that does not contain them: a key of `NETS`, a file with one class name per line
            (with or without BACKGROUND first), and the input size in pixels.

    Raises:
        InputError: a file cannot be read, is of another net or other classes, or the target exists.
    """
    if target.exists() or target.suffix not in (".pt", ".pth"):
        raise InputError(f"{target}: {'exists' if target.exists() else 'ends in neither .pt (ours) nor .pth (upstream)'}; "
                         "convert writes a new .pt or .pth file. Give another name.")
    if not SMALLEST_PX <= image_size <= LARGEST_PX:
        raise InputError(f"--image-size: {image_size}; {SMALLEST_PX} to {LARGEST_PX} pixels are allowed. Give the input size "
                         "that the net was trained with.")
    file = read_weights(source)
    if file.spec is not None and (net or labels):
        raise InputError(f"{source}: names its own net, {file.spec.net}, and its classes; --net and --labels are for files "
                         "that do not. Leave them out.")
    spec = file.spec or _spec_from_options(file, source, net, labels, image_size)
    if target.suffix == ".pth" and not NETS[spec.net].is_upstreams:
        raise InputError(f"{target}: upstream has no {spec.net}, so there are no .pth files of it, only .pt files. Give a "
                         "name that ends in .pt.")
    if target.suffix == ".pth" and spec.prior_sizes:
        raise InputError(f"{target}: the priors of {source} were fitted to its data (model.priors: auto), and a .pth file "
                         "cannot hold their sizes: its boxes would be wrong. Give a name that ends in .pt.")
    weights = fit_weights(file, spec.build(), spec, str(source))
    if target.suffix == ".pth":
        with atomic_write(target) as new:
            torch.save(to_upstream(weights), new)
        if (spec.image_size, spec.width_mult) != (300, 1.0):
            log.info("  a .pth file cannot hold that its net has width %g and input size %d px", spec.width_mult,
                        spec.image_size)
    else:
        save_model(target, spec, weights, {"fingerprint": "", "source": source.name, **(file.about or {})}, file.postprocess)
    log.info("written: %s, %s of %d classes", target, spec.net, len(spec.class_names))


def _recognise(content: Any, path: Path) -> WeightsFile:
    values = content if isinstance(content, Mapping) else {}
    if values.get("format") == CHECKPOINT_FORMAT:
        return _from_combo(read_checkpoint(path), path)
    if values.get("format") == MODEL_FORMAT:
        model = check(ModelSchema, values, str(path))
        return WeightsFile("this project", model.weights, NetSpec.from_plain(model.spec, f"{path}: spec"), about=model.about,
                           postprocess=read_postprocess(model.postprocess, path))
    if isinstance(values.get("format"), str):
        raise InputError(f"{path}: its format is '{shown_name(values['format'])}', which this version of the project does not "
                         "know. Use the version that made it.")
    if {"epoch", "weights"} <= values.keys():
        return WeightsFile(KABOOM, read_kaboom(path).weights, saw_unit_pixels=True)
    if values and all(isinstance(value, Tensor) for value in values.values()):
        return WeightsFile("qfgaohao/pytorch-ssd", {str(key).removeprefix("module."): value for key, value in values.items()})
    found = f"a dict of {', '.join(map(shown_name, list(content)[:4])) or 'nothing'}" if isinstance(content, Mapping) else (
        f"a {type(content).__name__}")
    raise InputError(f"{path}: not {WANTED}: it holds {found}.")


def _from_combo(checkpoint: ComboCheckpoint, path: Path) -> WeightsFile:
    about = {"fingerprint": checkpoint.fingerprint, "params": checkpoint.params,
             "metrics": dict(checkpoint.history[-1]) if checkpoint.history else {}}
    return WeightsFile("this project", checkpoint.final_weights, NetSpec.from_plain(checkpoint.spec, f"{path}: spec"),
                       about=about,
                       postprocess=read_postprocess(checkpoint.params.get("postprocess", {}), path))


def _check_same_net(tensors: Mapping[str, Tensor], file_spec: NetSpec, spec: NetSpec, own: Mapping[str, Tensor], where: str
                    ) -> None:
    faults = [f"model.{key} {getattr(file_spec, key)} is not {getattr(spec, key)}" for key in ("net", "width_mult", "scores")
              if getattr(file_spec, key) != getattr(spec, key)]
    wrong = tensors.keys() ^ own.keys() or {key for key in own if tensors[key].shape != own[key].shape
                                            and not key.startswith(CLASS_HEADS)}
    if faults or wrong:
        raise InputError(f"{where}: its weights are not this net's: {'; '.join(faults) or sorted(wrong)[0]}. Change "
                         "params.yaml, or use another file.")


def _count_classes(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], net: SSD) -> int:
    """Return the number of classes of weights under our names, from the last class head."""
    key = [key for key in own if key.startswith(CLASS_HEADS)][-1]
    return len(tensors[key]) * net.columns // len(own[key]) - (net.columns - net.classes)


def _class_difference(file: WeightsFile, weights: Mapping[str, Tensor], own: Mapping[str, Tensor], net: SSD, spec: NetSpec
                      ) -> str:
    """Return why the class heads do not fit; "" if they do."""
    count = _count_classes(weights, own, net)
    if count != net.classes:
        return f"{plural(count, 'class')} there, {net.classes} here"
    if file.spec is not None and file.spec.class_names != spec.class_names:
        pairs = zip(file.spec.class_names, spec.class_names, strict=True)
        there, here = next(pair for pair in pairs if pair[0] != pair[1])
        return f"other classes ('{there}' there, '{here}' here)"
    return ""


def _log_notes(file: WeightsFile, reason: str, net: SSD, spec: NetSpec) -> None:
    if file.saw_unit_pixels:
        log.warning("such files were trained on pixels in [0, 1]; the first convolution is rescaled to the pixels of this "
                       "net, (x - %g) / %g", net.mean[0].item(), net.std[0].item())
    if file.spec is not None and file.spec.prior_sizes != spec.prior_sizes:
        log.warning("its priors have other sizes than this net's (model.priors): the box heads must be retrained")
    if file.spec is None and not reason:
        log.info("  the file does not name its %d classes; they are assumed to be the present ones, in the same order",
                    net.classes)


def _spec_from_options(file: WeightsFile, source: Path, net: str | None, labels: Path | None, image_size: int) -> NetSpec:
    """Return the net of a file that does not name it, from the command's options."""
    if net not in NETS or labels is None:
        nets = ", ".join(name for name, row in NETS.items() if row.is_upstreams)
        raise InputError(f"{source}: weights of {file.kind}, which do not name their net and their classes; needed are --net "
                         f"({nets}) and --labels, a file with one class name per line.")
    names = _class_names(labels)
    spec = NetSpec(net, image_size, 1.0, names, tuple(range(1, len(names) + 1)))
    new = spec.build()
    own = new.state_dict()
    count = _count_classes(from_upstream(file.tensors, own, str(source)), own, new)
    if count != len(names):
        raise InputError(f"{source}: has {count} classes; {labels} names {len(names)} beside {BACKGROUND_NAME}. Give the "
                         "labels that it was trained with.")
    return spec


def _class_names(path: Path) -> tuple[str, ...]:
    try:
        lines = [line.strip() for line in read_regular(path).decode("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text: {error}. Labels are a file with one class name per line.") from error
    names = tuple(lines[1:] if lines[:1] == [BACKGROUND_NAME] else lines)
    twice = next((name for name in names if names.count(name) > 1), None)
    if not names or twice:
        raise InputError(f"{path}: {f'names {twice!r} twice' if twice else 'names no class'}; one class name per line is "
                         "needed, each once. Correct the file.")
    return names
