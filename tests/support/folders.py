"""Local folders for tests, and the manifests that `local` makes of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssd_lib.download.local import local
from ssd_lib.manifest import Manifest
from support.project import data_params, runtime_params

RUNTIME = runtime_params()


def plant(root: Path, *names: str, texts: Mapping[str, str | bytes] | None = None) -> Path:
    """Write files below `root`: `names` with their name as content, and `texts` with the given content."""
    for name, content in {name: name for name in names}.items() | (texts or {}).items():
        assert (root / name).resolve().is_relative_to(root.resolve()), f"{name} would lie outside of {root}"
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def run(*paths: Path | str, **changes: Any) -> Manifest:
    """Return the manifest of these data.paths."""
    return local(data_params(source="local", paths=[str(path) for path in paths], **changes), RUNTIME)


def pairs(manifest: Manifest) -> dict[str, dict[str, str]]:
    """Return the annotation file of each image, by split."""
    return {split: {image: text for part in parts for image, text in part.pairs.items()}
            for split, parts in manifest.splits.items()}


def class_names(manifest: Manifest) -> dict[str, str]:
    """Return the class names of the only part of train; val must have the same."""
    (train,), (val,) = manifest.splits["train"], manifest.splits["val"]
    assert train.class_names == val.class_names
    return train.class_names
