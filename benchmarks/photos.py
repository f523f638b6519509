"""Real photographs with COCO's annotations, to measure on: the small mirror of COCO that lies beside the project."""

import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from ssd_lib.annotations.fixed_set import FixedSet
from ssd_lib.evaluate.external import open_external
from ssd_lib.files import sha256
from ssd_lib.manifest import Manifest, Part

SPLIT = "train2017"


class Photos(NamedTuple):
    """80 photographs: their boxes, where each lies, and a manifest of them."""

    fixed: FixedSet
    path_of: Callable[[str], Path]
    manifest: Manifest


@contextmanager
def photographs(mirror: Path | None) -> Iterator[Photos]:
    """Unpack them for a while, into a folder that is the present one meanwhile: caches come to lie there, too.

    Args:
        mirror: a folder with COCO's own paths (zips/train2017.zip, annotations/...); None finds it at SSD_SHARED_DATA, or in
            the folder `shared` beside the project.
    """
    shared = Path(os.environ.get("SSD_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    mirror = mirror or shared / "coco-mirror"
    if not mirror.is_dir():
        sys.exit(f"{mirror}: not there; name a folder with COCO's paths (zips/{SPLIT}.zip, annotations/...) with --mirror")
    mirror = mirror.resolve()
    with TemporaryDirectory() as name, chdir(name):
        folder = Path(name)
        for archive in (f"zips/{SPLIT}.zip", "annotations/annotations_trainval2017.zip"):
            with zipfile.ZipFile(mirror / archive) as opened:
                opened.extractall(folder)
        instances, images = folder / "annotations" / f"instances_{SPLIT}.json", folder / SPLIT
        names = tuple(category["name"] for category in json.loads(instances.read_bytes())["categories"])
        files = {path.name: (path.stat().st_size, sha256(path)) for path in images.iterdir()}
        manifest = Manifest(source="local", root=str(images), splits={"train": (Part(),)}, files=files)
        yield Photos(open_external(instances, images, names).fixed, images.joinpath, manifest)

