"""From one file of weights to another: models/ssd.pt out of anything, and upstream's .pth out of what is ours."""

from pathlib import Path

import torch

from ssd_lib.annotations.fixed_set import BACKGROUND_NAME
from ssd_lib.checkpoint.weights import GivenWeights, classes_of, fit_weights, read_weights
from ssd_lib.errors import InputError
from ssd_lib.files import atomic_write
from ssd_lib.nets.model_file import Model, NetSpec, build_model, refuse_missing, save_model
from ssd_lib.nets.upstream import from_upstream, to_upstream
from ssd_lib.nets.zoo import NETS

SMALLEST_PX, LARGEST_PX = 64, 1024  # as of model.image_size


def open_model(path: Path, device: torch.device | str = "cpu") -> Model:
    """The detector in an ssd.pt or in a combo checkpoint, in evaluation mode on `device`.

    Raises:
        StateError: it is not there.
        InputError: it is another file; upstream's do not say of which net and classes they are.
    """
    refuse_missing(path)
    given = read_weights(path)
    if given.spec is None:
        raise InputError(f"{path}: weights of {given.kind}, which do not name their net and their classes. Convert them first: "
                         f"ssd checkpoint convert {path} ssd.pt --net mb1-ssd --labels labels.txt")
    return build_model(path, vars(given.spec), given.tensors, dict(given.about or {}), device)


def convert(source: Path, target: Path, net: str | None, labels: Path | None, image_size: int) -> str:
    """Write `target`: a model file of ours if its name ends in .pt, a state dict under upstream's names if in .pth.

    Args:
        source: anything that `read_weights` takes.
        target: must not exist.
        net, labels, image_size: of a source that does not say: its key in `NETS`, a file with a class name a line (with or
            without BACKGROUND first), and the side of its input in pixels.

    Returns:
        Lines to tell the user.

    Raises:
        InputError: a file cannot be read, is of another net or other classes, or the target exists.
    """
    if target.exists() or target.suffix not in (".pt", ".pth"):
        raise InputError(f"{target}: {'exists' if target.exists() else 'ends in neither .pt (ours) nor .pth (upstream)'}; "
                         "convert writes a new .pt or .pth file. Give another name.")
    if not SMALLEST_PX <= image_size <= LARGEST_PX:
        raise InputError(f"--image-size: {image_size}; {SMALLEST_PX} to {LARGEST_PX} pixels are allowed. Give the side of the "
                         "input that the net was trained with.")
    given = read_weights(source)
    if given.spec is not None and (net or labels):
        raise InputError(f"{source}: names its own net, {given.spec.net}, and its classes; --net and --labels are for files "
                         "that do not. Leave them out.")
    spec = given.spec or _spec_of(given, source, net, labels, image_size)
    if target.suffix == ".pth" and not NETS[spec.net].is_upstreams:
        raise InputError(f"{target}: upstream has no {spec.net}, so that .pth files of it do not exist; .pt files do. Give a "
                         "name that ends in .pt.")
    if target.suffix == ".pth" and spec.prior_sizes:
        raise InputError(f"{target}: the priors of {source} were fitted to its data (model.priors: auto), and a .pth file has "
                         "no place for their sizes: its boxes would be wrong. Give a name that ends in .pt.")
    weights, lines = fit_weights(given, spec.build(), spec, str(source))
    if target.suffix == ".pth":
        with atomic_write(target) as file:
            torch.save(to_upstream(weights), file)
    else:
        save_model(target, spec, weights, {"fingerprint": "", "source": source.name, **(given.about or {})})
    if target.suffix == ".pth" and (spec.image_size, spec.width_mult) != (300, 1.0):
        lines.append(f"  a .pth file cannot say that its net is of width {spec.width_mult:g} and sees {spec.image_size} px")
    return "\n".join([*lines, f"written: {target}, {spec.net} of {len(spec.class_names)} classes"])


def _spec_of(given: GivenWeights, source: Path, net: str | None, labels: Path | None, image_size: int) -> NetSpec:
    """What the user says of a file that says nothing itself."""
    if net not in NETS or labels is None:
        nets = ", ".join(name for name, row in NETS.items() if row.is_upstreams)
        raise InputError(f"{source}: weights of {given.kind}, which do not name their net and their classes; needed are --net "
                         f"({nets}) and --labels, a file with a class name a line.")
    names = _class_names(labels)
    spec = NetSpec(net, image_size, 1.0, names, tuple(range(1, len(names) + 1)))
    own = spec.build().state_dict()
    count = classes_of(from_upstream(given.tensors, own, str(source)), own, len(names))
    if count != len(names):
        raise InputError(f"{source}: is of {count} classes; {labels} names {len(names)} beside {BACKGROUND_NAME}. Give the "
                         "labels that it was trained with.")
    return spec


def _class_names(path: Path) -> tuple[str, ...]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text: {error}. Labels are a file with a class name a line.") from error
    names = tuple(lines[1:] if lines[:1] == [BACKGROUND_NAME] else lines)
    twice = next((name for name in names if names.count(name) > 1), None)
    if not names or twice:
        raise InputError(f"{path}: {f'names {twice!r} twice' if twice else 'names no class'}; a class name a line is needed, "
                         "each once. Mend the file.")
    return names
