"""Weights of a detector from any file that holds some, and their way into a net of ours."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ssd_lib.checkpoint.file import CHECKPOINT_FORMAT, ComboCheckpoint, read_checkpoint
from ssd_lib.checkpoint.kaboom import read_kaboom
from ssd_lib.errors import InputError
from ssd_lib.nets.input_scale import rescale_input
from ssd_lib.nets.model_file import MODEL_FORMAT, NetSpec
from ssd_lib.nets.ssd import SSD
from ssd_lib.nets.torch_file import read_torch_file, refuse_strange
from ssd_lib.nets.upstream import CLASS_HEADS, from_upstream

WANTED = "weights of a detector (a combo checkpoint, an ssd.pt, or a .pth of qfgaohao, dusty-nv or kaboom-labs)"
KABOOM = "kaboom-labs/pytorch-ssd"
UNIT_PIXELS = ((0.0,) * 3, (255.0,) * 3)  # the mean and std of who divides by 255


@dataclass(frozen=True)
class GivenWeights:
    """What a file holds.

    Attributes:
        kind: whose file it is, in words.
        tensors: under our names where there is a spec, else under upstream's.
        spec: of the net they belong to; None in files that do not say.
        saw_unit_pixels: they were trained on pixels in [0, 1], and not on what the net sees.
        about: what else is known, as in models/ssd.pt.
    """

    kind: str
    tensors: dict[str, Tensor]
    spec: NetSpec | None = None
    saw_unit_pixels: bool = False
    about: Mapping[str, Any] | None = None


def read_weights(path: Path) -> GivenWeights:
    """Read a file of weights of any of the kinds in `WANTED`; nothing in it is executed.

    Raises:
        InputError: it is missing, damaged, or something else.
    """
    try:
        content = read_torch_file(path, WANTED)
    except InputError as error:
        try:  # its scheduler is an object, so that torch refuses the file
            given = GivenWeights(KABOOM, read_kaboom(path).weights, saw_unit_pixels=True)
        except InputError:
            raise error from None
    else:
        given = _recognise(content, path)
    refuse_strange(given.tensors, str(path))
    return given


def fit_weights(given: GivenWeights, net: SSD, spec: NetSpec, where: str) -> tuple[dict[str, Tensor], list[str]]:
    """The state dict of `net` with given weights in it, and a table of what was loaded, a line each.

    Class heads stay as `net` has them where the file's classes are others; all else must fit.

    Args:
        given: from `read_weights`.
        net: with new weights.
        spec: of that net.
        where: the file, for messages.

    Raises:
        InputError: the weights are of another net.
    """
    own = net.state_dict()
    if given.spec is None:
        loaded = from_upstream(given.tensors, own, where)
    else:
        loaded = match_one_image(given.tensors, given.spec, spec, own, where)
    if given.saw_unit_pixels:
        loaded = rescale_input(loaded, net, *UNIT_PIXELS)
    reason = _other_classes(given, loaded, own, net, spec)
    loaded = {key: own[key] if reason and key.startswith(CLASS_HEADS) else value for key, value in loaded.items()}
    counts = Counter(key.split(".")[0] for key in own)
    lines = [f"  {part:12} {count:4} tensors {'new: ' + reason if reason and part + '.' == CLASS_HEADS else 'loaded'}"
             for part, count in counts.items()]
    return loaded, [f"weights of {where} ({given.kind}):", *lines, *_notes(given, reason, net, spec)]


def classes_of(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], classes: int) -> int:
    """How many classes weights under our names are of, from the last class head, beside those of a net with `classes`."""
    key = [key for key in own if key.startswith(CLASS_HEADS)][-1]
    return len(tensors[key]) * (classes + 1) // len(own[key]) - 1


def _recognise(content: Any, path: Path) -> GivenWeights:
    plain = content if isinstance(content, Mapping) else {}
    if plain.get("format") == CHECKPOINT_FORMAT:
        return _from_combo(read_checkpoint(path), str(path))
    if plain.get("format") == MODEL_FORMAT:
        return GivenWeights("this project", plain.get("weights", {}), NetSpec.from_plain(plain.get("spec", {}), str(path)),
                            about=plain.get("about"))
    if isinstance(plain.get("format"), str):
        raise InputError(f"{path}: its format is {plain['format']!r}, which this version of the project does not know. Take "
                         "the version that made it.")
    if {"epoch", "weights"} <= plain.keys():
        return GivenWeights(KABOOM, read_kaboom(path).weights, saw_unit_pixels=True)
    if plain and all(isinstance(value, Tensor) for value in plain.values()):
        return GivenWeights("qfgaohao/pytorch-ssd", {str(key).removeprefix("module."): value for key, value in plain.items()})
    raise InputError(f"{path}: not {WANTED}: it holds {_in_words(content)}.")


def _from_combo(checkpoint: ComboCheckpoint, where: str) -> GivenWeights:
    about = {"fingerprint": checkpoint.fingerprint, "params": checkpoint.params,
             "metrics": dict(checkpoint.history[-1]) if checkpoint.history else {}}
    return GivenWeights("this project", checkpoint.final_weights, NetSpec.from_plain(checkpoint.spec, where), about=about)


def match_one_image(tensors: dict[str, Tensor], given: NetSpec, spec: NetSpec, own: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    faults = [f"model.{key} {getattr(given, key)} is not {getattr(spec, key)}" for key in ("net", "width_mult")
              if getattr(given, key) != getattr(spec, key)]
    wrong = tensors.keys() ^ own.keys() or {key for key in own if tensors[key].shape != own[key].shape
                                            and not key.startswith(CLASS_HEADS)}
    if faults or wrong:
        raise InputError(f"{where}: its weights are not this net's: {'; '.join(faults) or sorted(wrong)[0]}. Change "
                         "params.yaml, or take another file.")
    return tensors


def _other_classes(given: GivenWeights, loaded: Mapping[str, Tensor], own: Mapping[str, Tensor], net: SSD,
                   spec: NetSpec) -> str:
    """Why the class heads do not fit, "" where they do."""
    count = classes_of(loaded, own, net.classes)
    if count != net.classes:
        return f"{count} classes there, {net.classes} here"
    if given.spec is not None and given.spec.class_names != spec.class_names:
        pairs = zip(given.spec.class_names, spec.class_names, strict=True)
        there, here = next(pair for pair in pairs if pair[0] != pair[1])
        return f"other classes ('{there}' there, '{here}' here)"
    return ""


def _notes(given: GivenWeights, reason: str, net: SSD, spec: NetSpec) -> list[str]:
    notes = []
    if given.saw_unit_pixels:
        notes.append("  WARNING such files were trained on pixels in [0, 1]; the first convolution is rescaled to the pixels "
                     f"of this net, (x - {net.mean[0].item():g}) / {net.std[0].item():g}")
    if given.spec is not None and given.spec.prior_sizes != spec.prior_sizes:
        notes.append("  WARNING its priors have other sizes than this net's (model.priors): the box heads must learn anew")
    if given.spec is None and not reason:
        notes.append(f"  the file does not name its {net.classes} classes; taken to be the present ones, in the same order")
    return notes


def _in_words(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a dict of {', '.join(map(str, list(content)[:4])) or 'nothing'}"
    return f"a {type(content).__name__}"
