"""The inputs of `ssd detect`: images, videos and cameras, and the paths of their drawings."""

import glob
import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np

from ssd_lib.errors import InputError
from ssd_lib.images import FULL_RANGE, IMAGE_SUFFIXES, MAX_BYTES, Range, decode_foreign_image, read_image

VIDEO_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".gif"}
Source = Path | int | str  # a file, the number of a camera, or a URL
URL = re.compile(r"(rtsps?|https?)://.", re.IGNORECASE)
CAMERA_DIGITS = 3  # a longer number is a file name
STDIN = Path("-")  # one encoded image on standard input


def find_sources(inputs: list[str]) -> list[Source]:
    """Return the sources that the inputs name, each once, in the order of the inputs; files of a folder are sorted by name.

    Args:
        inputs: each a file, a folder (searched recursively), a pattern, the number of a camera, the URL of a video, or - for
            standard input.

    Raises:
        InputError: an input matches nothing.
    """
    sources: dict[Source, None] = {}
    for name in inputs:
        found = _matches(name)
        if not found:
            suffixes = f" ({', '.join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))})" if Path(name).exists() else ""
            raise InputError(f"{name}: no image or video found; an input is a file, a folder or a pattern of them{suffixes}, "
                             "the number of a camera, an rtsp:// or http:// URL of a video, or - for an image on standard "
                             "input. Check the spelling.")
        sources.update(dict.fromkeys(found))
    return list(sources)


def is_video(source: Source) -> bool:
    """Return whether the source has frames: a camera, a URL, or a file with the suffix of a video."""
    return not isinstance(source, Path) or source.suffix.lower() in VIDEO_SUFFIXES


def name_of(source: Source) -> str:
    """Return the name of a source for messages and JSON; of a URL, without its password."""
    if isinstance(source, str):
        return re.sub(r"//[^/?#]*@", "//", source)
    return f"camera{source}" if isinstance(source, int) else source.as_posix()


def drawing_paths(sources: list[Source], folder: Path) -> dict[Source, Path]:
    """Return the path of each drawing: the source's name as .jpg or .mp4, with a number added if the name is taken.

    Raises:
        InputError: a drawing would replace an input.
    """
    paths: dict[Source, Path] = {}
    taken: set[str] = set()
    for source in sources:
        stem = "stdin" if source == STDIN else _url_stem(source) if isinstance(source, str) else Path(name_of(source)).stem
        suffix = ".mp4" if is_video(source) else ".jpg"
        name, number = f"{stem}{suffix}", 1
        while name.lower() in taken:  # some file systems ignore case
            number += 1
            name = f"{stem}_{number}{suffix}"
        taken.add(name.lower())
        paths[source] = folder / name
    originals = {source.resolve() for source in sources if isinstance(source, Path)}
    clash = next((path for path in paths.values() if path.resolve() in originals), None)
    if clash:
        raise InputError(f"--out {folder}: the drawing would replace {clash}, which is an input; drawings need a folder of "
                         "their own. Give another folder.")
    return paths


def read_input(path: Path, deep_range: Range = FULL_RANGE) -> np.ndarray:
    """Decode an image file as `read_image` does, or the image on standard input.

    Raises:
        InputError: it is not an image.
    """
    if path != STDIN:
        return read_image(path, deep_range)
    data = b"" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read(MAX_BYTES + 1)
    return decode_foreign_image(data, f"-: {len(data)} bytes on standard input",
                                "One encoded image is needed, for example `ssd detect - < photo.jpg`", deep_range)


def _url_stem(url: str) -> str:
    """Return the last part of a URL's path without its suffix, or the host, as the name of a file."""
    parts = urlsplit(url)
    return re.sub(r"[^\w.-]", "_", Path(unquote(parts.path)).stem or parts.hostname or "stream")


def _matches(name: str) -> list[Source]:
    if URL.match(name):
        return [name]
    if name.isascii() and name.isdigit() and len(name) <= CAMERA_DIGITS and not Path(name).exists():
        return [int(name)]
    if Path(name) == STDIN:
        return [STDIN]
    names = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))
    return [path for match in names for path in _files(Path(match))]


def _files(path: Path) -> list[Path]:
    """Return the file itself, or the images and videos of a folder."""
    if not path.is_dir():
        return [path]
    suffixes = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
