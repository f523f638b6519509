"""Download COCO 2017 or data in its layout (a mirror, the demo): the archives, and where their files are."""

import re
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from ssd_lib.download.archive_set import Record, Remote, fetch_archives
from ssd_lib.manifest import Manifest, Part, raw_folder
from ssd_lib.params import DataParams, RuntimeParams

OFFICIAL = "http://images.cocodataset.org"

SPLITS = {
    "train": Part(images="train2017", annotations="annotations/instances_train2017.json"),
    "val": Part(images="val2017", annotations="annotations/instances_val2017.json"),
    "test": Part(images="test2017", annotations="annotations/image_info_test2017.json"),
}

# Size and MD5 of the official archives, from public sources; one size is unknown.
TRAIN_VAL = (
    Remote("zips/train2017.zip", ("train2017",), 19336861798, "cced6f7f71b7629ddf16f17bbcfab6b2"),
    Remote("zips/val2017.zip", ("val2017",), 815585330, "442b8da7639aecaf257c1dceb8ba8c80"),
    Remote("annotations/annotations_trainval2017.zip", (SPLITS["train"].annotations, SPLITS["val"].annotations),
           252907541, "f4bbac642086de4f52a3fdda2de5fa2c", growth=2.0),
)
TEST = (
    Remote("zips/test2017.zip", ("test2017",), 6646970404, "77ad2c53ac5d0aea611d422c0938fb35"),
    Remote("annotations/image_info_test2017.zip", (SPLITS["test"].annotations,),
           None, "85da7065e5e600ebfee8af1edb634eb5", growth=8.0),
)


def coco2017(data: DataParams, runtime: RuntimeParams) -> Manifest:
    """Provide COCO 2017, or a mirror of it, on the disk; return its manifest.

    Guarantees: from the official server every archive has its published size and MD5. A mirror has its own sizes, recorded in
    the manifest, and its own folder: it never touches official data.

    Raises:
        InputError, StateError: see `fetch_archives`.
    """
    remotes = TRAIN_VAL + (TEST if "test" in data.splits else ())
    base_url = OFFICIAL if data.base_url == "auto" else data.base_url.rstrip("/")
    if not _is_official(base_url):
        remotes = tuple(replace(remote, bytes=None, md5=None) for remote in remotes)
    root = root_name("coco2017", base_url, _is_official(base_url))
    records = fetch_archives(raw_folder() / root, remotes, base_url, runtime.downloads)
    archives = {path: record.archive for path, record in records.items()}
    return manifest_of("coco2017", root, records, data.classes).model_copy(update={"archives": archives})


def manifest_of(source: str, root: str, records: dict[str, Record], classes: Sequence[str]) -> Manifest:
    """Return the manifest of files in COCO's layout; its splits are those whose annotations were unpacked."""
    files = {name: row for record in records.values() for name, row in record.files.items()}
    splits: dict[str, tuple[Part, ...]] = {name: (part,) for name, part in SPLITS.items() if part.annotations in files}
    return Manifest(source=source, root=root, splits=splits, classes=tuple(classes), files=files)


def root_name(source: str, base_url: str, official: bool) -> str:
    """Return a folder name for each server: coco2017, or coco2017@HOST_PORT for a mirror."""
    if official:
        return source
    address = urlsplit(base_url)
    place = address.netloc.rpartition("@")[2] + address.path.rstrip("/")  # without user name and password
    return f"{source}@" + re.sub(r"[^A-Za-z0-9.-]+", "_", place)


def _is_official(base_url: str) -> bool:
    return urlsplit(base_url).netloc == urlsplit(OFFICIAL).netloc
