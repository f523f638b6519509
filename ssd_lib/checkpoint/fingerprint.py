"""Name runs: a run is the same as long as all that shapes its result is, and `train.epochs` may grow."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssd_lib.checkpoint.file import CHECKPOINTS
from ssd_lib.data.augment import file_of
from ssd_lib.data.pixel_cache import cache_name
from ssd_lib.errors import InputError
from ssd_lib.files import in_project, sha256, why_unreadable
from ssd_lib.params import WORDS_FOR_FILES

# Keys of `train` that do not shape the weights of an epoch: changing them continues a run. So does all of `postprocess`.
NOT_IN_FINGERPRINT = {"epochs", "checkpoint_minutes", "ap_every_epochs", "select", "resume", "patience"}
# Keys of `train` that older checkpoints lack, with the value that does what those did: with it they do not count.
DEFAULTS_OF_NEW_KEYS = {"sync_batch_norm": False, "compile": False, "assignment": "auto", "class_loss": "auto",
                        "box_loss": "auto", "micro_batch": "auto"}
RANGE_OF_OLD = ("sixteen_bit_range", "full")  # a newer key of `model`, and what those did
MODES = ("auto", "never")  # values of train.resume that are no path
Groups = Mapping[str, Mapping[str, Any]]


def data_digest(folder: Path) -> str:
    """Return the SHA-256 over the names and bytes of the files of data/fixed, which hold a digest of the images."""
    rows = [(path.relative_to(folder).as_posix(), sha256(path)) for path in sorted(folder.rglob("*")) if path.is_file()]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def make_fingerprint(params: Groups, digest: str) -> str:
    """Return the name of a run, a hash of all that shapes its result.

    That is `model`, `train` without NOT_IN_FINGERPRINT and DEFAULTS_OF_NEW_KEYS, and the data. The groups `data` and `fix`
    count through the bytes of data/fixed only (but `data.balance` and `data.cache` directly), so that the same images from
    another mirror continue a run. Files that the parameters name count by their content.

    Raises:
        InputError: such a file does not exist.
    """
    model = {key: value for key, value in params["model"].items() if (key, value) != RANGE_OF_OLD}
    shaping = {"model": model, "train": _shaping(params["train"]), "data": digest}
    if params["data"]["balance"] != "none":  # it changes the order of the images
        shaping["balance"] = [params["data"]["balance"], params["data"]["balance_threshold"]]
    if (cache := params["data"]["cache"]) != "none":  # it changes pixels
        shaping["cache"] = cache_name(cache, params["model"]["image_size"])
    resume = params["train"]["resume"]
    if resume not in MODES:
        shaping["parent"] = sha256(resume_path(resume))
    for key in ("weights", "backbone_weights"):
        if (source := params["model"][key]) not in WORDS_FOR_FILES[f"model.{key}"]:
            shaping[key] = sha256(_weights_path(key, source))
    if (path := file_of(params["train"].get("augmentation", "none"))) is not None:
        shaping["augmentation"] = sha256(path)
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:16]


def differences(before: Groups, now: Groups) -> list[str]:
    """List the keys that shape the result and differ, as "train.lr: 0.03 -> 0.01"."""
    def flat(groups: Groups) -> dict[str, Any]:
        return {f"{name}.{key}": value for name, group in groups.items() for key, value in group.items()
                if name != "postprocess" and not (name == "train" and key in NOT_IN_FINGERPRINT)}
    old, new = ({f"train.{key}": value for key, value in DEFAULTS_OF_NEW_KEYS.items()} | {f"model.{RANGE_OF_OLD[0]}":
                RANGE_OF_OLD[1]} | flat(groups)
                for groups in (before, now))
    return [f"{key}: {old.get(key)} -> {new.get(key)}" for key in sorted(old | new) if old.get(key) != new.get(key)]


def resume_path(resume: str) -> Path:
    """Return the file that `train.resume` names; a relative path starts at the root of the main repository.

    Raises:
        InputError: the file does not exist, or the run would overwrite it.
    """
    path = in_project(resume)
    if path.parent.resolve() == CHECKPOINTS.resolve():
        raise InputError(f"params.yaml: train.resume is '{resume}', which the run itself would overwrite; a file in another "
                         f"folder is needed. Copy it: cp {resume} my.pt")
    if not path.is_file():
        raise InputError(f"params.yaml: train.resume is '{resume}', which is not a file ({path}); allowed are auto, never, "
                         "or the path of a combo checkpoint.")
    return path


def _shaping(train: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in train.items()
            if key not in NOT_IN_FINGERPRINT and not (key in DEFAULTS_OF_NEW_KEYS and value == DEFAULTS_OF_NEW_KEYS[key])}


def _weights_path(key: str, source: str) -> Path:
    """Return the file that `model.weights` or `model.backbone_weights` names."""
    path = in_project(source)
    if reason := why_unreadable(path):
        raise InputError(f"params.yaml: model.{key} is '{source}', which cannot be read ({path}: {reason}); allowed are "
                         f"{', '.join(WORDS_FOR_FILES[f'model.{key}'])}, or the path of a file of weights.")
    return path
