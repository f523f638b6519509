"""The download stage: bring any source to the disk and list its files in a manifest."""

from collections.abc import Callable

from ssd_lib.demo.archives import DEMO_VERSION, make_archives
from ssd_lib.download.archive_set import ARCHIVES, Remote, fetch_archives, intact_records
from ssd_lib.download.coco2017 import TRAIN_VAL, coco2017, manifest_of
from ssd_lib.download.local import local
from ssd_lib.download.open_images import open_images
from ssd_lib.errors import plural
from ssd_lib.manifest import Manifest, raw_folder
from ssd_lib.params import DataParams, RuntimeParams


def download(data: DataParams, runtime: RuntimeParams) -> Manifest:
    """Provide the dataset on the disk, complete and verified; return its manifest.

    Guarantees: nothing is fetched twice, and no server is contacted if nothing is missing. The same data give the same
    manifest.

    Raises:
        InputError, StateError: an error in the data, the parameters, the server or the disk.
    """
    return SOURCES[data.source](data, runtime)


def summary(manifest: Manifest, seconds: float) -> str:
    """Return one line, such as "download: local (voc + yolo), 205 + 87 images, 35.2 MB, 3.2 s"."""
    of_splits = [manifest.images(split) for split in manifest.splits]
    total = len(set().union(*of_splits))  # splits may share a folder; which of its images each has is only in their annotations
    images = (" + ".join(f"{len(images):,}" for images in of_splits) + " images" if total == sum(map(len, of_splits)) != 1
              else plural(total, "image"))
    size = sum(size for size, _ in manifest.files.values())
    formats = " + ".join(dict.fromkeys(part.format for parts in manifest.splits.values() for part in parts))
    source = f"local ({formats})" if manifest.source == "local" else manifest.source
    return f"download: {source}, {images}, {size / 1e6:.1f} MB, {seconds:.1f} s"


def demo(data: DataParams, runtime: RuntimeParams) -> Manifest:
    """Generate the demo dataset as archives; from there on it is handled like COCO.

    Raises:
        StateError: the disk is full, or scikit-image lacks its photographs.
    """
    train_images, val_images = data.demo_images
    name = f"demo-v{DEMO_VERSION}-{train_images}-{val_images}"
    root = raw_folder() / name
    remotes = [Remote(remote.path, remote.members) for remote in TRAIN_VAL]
    if len(intact_records(root, remotes)) < len(remotes):
        make_archives(root / ARCHIVES, train_images, val_images)
    records = fetch_archives(root, remotes, "", runtime.downloads)  # every archive exists: no server is needed
    return manifest_of("demo", name, records, data.classes)


SOURCES: dict[str, Callable[[DataParams, RuntimeParams], Manifest]] = {
    "demo": demo,
    "coco2017": coco2017,
    "open_images": open_images,
    "local": local,
}
