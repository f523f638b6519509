"""How large an image is, from its header alone, for labels that do not say so. Whether it is whole is for `image_checks`."""

import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from PIL import Image as Pillow

from ssd_lib.images import DECODER_ERRORS, PILLOW_FORMATS

CHUNK = 64  # images a task: handing over one alone would take longer than its header


def read_size(path: Path) -> tuple[int, int] | None:
    """The (width, height) of an image in pixels; None where its header cannot be read.

    Guarantees: it is the size of what `decode_image` gives, so an EXIF rotation is not applied.
    """
    with _ready():
        return _header_size(path)


def read_sizes(paths: Iterable[Path]) -> list[tuple[int, int] | None]:
    """`read_size` of each, several at once, in order."""
    waiting = list(paths)
    chunks = [waiting[at:at + CHUNK] for at in range(0, len(waiting), CHUNK)]
    with _ready(), ThreadPoolExecutor() as pool:
        return [size for sizes in pool.map(lambda chunk: [_header_size(path) for path in chunk], chunks) for size in sizes]


@contextmanager
def _ready() -> Iterator[None]:
    """Pillow knows all of its formats, and does not warn of large pictures: not a pixel is decoded."""
    Pillow.init()
    with warnings.catch_warnings():  # for all threads, so it must not be in them
        warnings.simplefilter("ignore")
        yield


def _header_size(path: Path) -> tuple[int, int] | None:
    try:
        with Pillow.open(path, formats=PILLOW_FORMATS) as header:
            return header.size
    except (*DECODER_ERRORS, Pillow.DecompressionBombError):
        return None
