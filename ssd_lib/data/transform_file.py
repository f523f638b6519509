"""Augmentation by a file of the user: a pipeline of albumentations, as `albumentations.save` writes it in YAML or JSON.

The file gives the transforms. How boxes are passed, which are kept and what the randomness depends on is the same as for the
presets of augment.py, whatever the file says.
"""

import difflib
import json
import os
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ssd_lib.errors import InputError, visible
from ssd_lib.files import read_regular

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise it contacts the network when imported

import albumentations as A
from albumentations.core.serialization import SERIALIZABLE_REGISTRY, shorten_class_name
from albumentations.core.transforms_interface import BasicTransform, ImageOnlyTransform

NAME, CHILDREN = "__class_fullname__", "transforms"  # keys of a serialised transform
MAX_DEPTH = 20  # of transforms in transforms
MAX_TEXT = 300  # characters of another library's message


def load_transform(path: Path) -> A.Compose:
    """Read a pipeline and prepare it for images with boxes.

    Raises:
        InputError: it is no such pipeline, or has a transform or an argument that this version of albumentations does not know,
            a lambda, or a transform that moves pixels but not boxes.
    """
    tree = _read(path)
    for found in _walk(tree["transform"]):
        if fault := _fault(found):
            raise InputError(f"{path}: {visible(fault)}.{_versions(tree)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # arguments that are not known are an error here
            loaded = A.from_dict(tree)
            transforms, chance = (loaded.transforms, loaded.p) if isinstance(loaded, A.Compose) else ([loaded], 1.0)
            if unknown := [fault for transform in transforms for fault in _unknown_arguments(transform)]:
                raise ValueError(unknown[0])
            return A.Compose(
                transforms, p=chance,
                bbox_params=A.BboxParams(format="albumentations", clip=True, min_area=0.0, min_visibility=0.0),
                keypoint_params=A.KeypointParams(format="xy", remove_invisible=False))
    except Exception as error:
        raise InputError(f"{path}: albumentations cannot build it: {_text(error)}.{_versions(tree)}") from error


def apply_transform(transform: A.Compose, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray,
                    generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transform one sample; its size may change.

    Args:
        transform: from `load_transform`.
        image: (H, W, 3) uint8.
        boxes: (M, 4) float32, xyxy in [0, 1].
        labels: (M,) integers; a negative one marks a crowd.
        generator: the only source of randomness.

    Returns:
        (H', W', 3) uint8, (N, 4) float32 in [0, 1] and (N,) labels: objects whose centre has left the image are dropped. Of a
        crowd whatever is visible is kept.

    Raises:
        InputError: a transform fails on this image, or does not give such an image.
    """
    transform.set_random_state(generator, random.Random(int(generator.integers(1 << 63))))
    height, width = image.shape[:2]
    numbered = np.column_stack([boxes, np.arange(len(boxes))]).astype(np.float32)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 * np.array([width, height], dtype=np.float32)
    try:
        result = transform(image=image, bboxes=numbered, keypoints=centres)
    except Exception as error:
        raise InputError(f"train.augmentation fails on an image of {width} x {height} px: {_text(error)}. Correct the file, or "
                         "make it fit all images, for example with PadIfNeeded.") from error
    sample, found, moved = result["image"], result["bboxes"], np.asarray(result["keypoints"])
    if not isinstance(sample, np.ndarray) or sample.dtype != np.uint8 or sample.ndim != 3 or sample.shape[2] != 3:
        raise InputError(f"train.augmentation must give images of 8 bits and three channels, and gives {_kind(sample)}. "
                         "Leave out Normalize, ToFloat, ToTensorV2 and the like: pixels are normalised later.")
    if len(moved) != len(boxes):
        raise InputError("train.augmentation has a transform that removes points, so that objects cannot be followed.")
    if len(found) == 0:
        return sample, np.empty((0, 4), np.float32), labels[:0]
    kept, number = found[:, :4].astype(np.float32), found[:, 4].round().astype(int)
    centre_inside = ((moved[:, :2] > 0) & (moved[:, :2] < (sample.shape[1], sample.shape[0]))).all(axis=1)
    visible_part = (centre_inside | (labels < 0))[number] & (kept[:, 2:] > kept[:, :2]).all(axis=1)
    return sample, kept[visible_part], labels[number[visible_part]]


def _read(path: Path) -> dict[str, Any]:
    try:
        text = read_regular(path).decode("utf-8")
        tree = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "YAML"
        raise InputError(f"{path}: not {kind}: {_text(error)}. Write it with albumentations.save(transform, '{path.name}', "
                         f"data_format='{kind.lower()}').") from error
    if not isinstance(tree, dict) or not isinstance(tree.get("transform"), dict):
        raise InputError(f"{path}: not a pipeline of albumentations: the key 'transform' is missing. Write it with "
                         f"albumentations.save(transform, '{path.name}', data_format='yaml').")
    return tree


def _walk(transform: Any, depth: int = 0) -> Iterator[Any]:
    """Yield a serialised transform and all in it; in place of what is too deep, such as one that holds itself, None."""
    yield transform if depth <= MAX_DEPTH else None
    children = transform.get(CHILDREN, []) if isinstance(transform, dict) and depth <= MAX_DEPTH else []
    for child in children if isinstance(children, list) else [children]:
        yield from _walk(child, depth + 1)


def _fault(found: Any) -> str:
    """Return why a serialised transform cannot be used; "" if it can."""
    if not isinstance(found, dict) or not isinstance(found.get(NAME), str):
        return f"found {found!r:.80} in place of a transform, which has a {NAME}"
    name = shorten_class_name(found[NAME])
    if name == "Lambda":
        return "Lambda is code, which a file cannot hold; leave it out"
    if (kind := SERIALIZABLE_REGISTRY.get(name)) is None:
        near = difflib.get_close_matches(name, SERIALIZABLE_REGISTRY, n=1)
        return f"the transform '{name}' is not known" + (f", but '{near[0]}' is" if near else "")
    if not issubclass(kind, BasicTransform) or issubclass(kind, ImageOnlyTransform):
        return ""
    targets = getattr(kind, "_targets", ())
    names = {str(target.value) for target in (targets if isinstance(targets, tuple) else (targets,)) if target is not None}
    return "" if {"BBoxes", "Keypoints"} <= names else f"{name} does not move boxes with the pixels; leave it out"


def _unknown_arguments(transform: Any) -> Iterator[str]:
    """Yield the faults of a transform and of all in it. Arguments of a base class are written by albumentations itself."""
    if isinstance(transform, BasicTransform):
        names = set(transform.invalid_args) - set(transform.get_transform_init_args_names())
        yield from (f"{type(transform).__name__} has no argument '{name}'" for name in sorted(names))
    for child in getattr(transform, CHILDREN, []):
        yield from _unknown_arguments(child)


def _versions(tree: dict[str, Any]) -> str:
    """Return a hint if another version of albumentations wrote the file."""
    wrote = tree.get("__version__")
    if wrote in (None, A.__version__):
        return ""
    return visible(f" The file was written by albumentations {wrote}, and {A.__version__} is installed, whose transforms may "
                   "have other names and arguments.")


def _text(error: Exception) -> str:
    text = visible(" ".join(str(error).split()) or type(error).__name__, MAX_TEXT).rstrip(".")
    return text if isinstance(error, ValueError | yaml.YAMLError) else f"{type(error).__name__}: {text}"


def _kind(sample: Any) -> str:
    return f"{getattr(sample, 'dtype', type(sample).__name__)} of shape {tuple(getattr(sample, 'shape', ()))}"
