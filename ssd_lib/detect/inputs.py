"""What the command line of detect.py names: pictures and videos, one by one, and where their drawings go."""

import glob
import sys
from pathlib import Path

import numpy as np

from ssd_lib.errors import InputError
from ssd_lib.images import IMAGE_SUFFIXES, decode_image, read_image

VIDEO_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".gif"}
Source = Path | int  # a file, or the number of a camera
CAMERA_DIGITS = 3  # of the number of a camera; a longer one names a file
STDIN = Path("-")  # one encoded picture on standard input


def find_sources(inputs: list[str]) -> list[Source]:
    """What the inputs name, each once, in their order; what a folder holds by name.

    Args:
        inputs: a file, a folder (with its subfolders), a pattern, the number of a camera, or - for standard input.

    Raises:
        InputError: an input names nothing.
    """
    sources: dict[Source, None] = {}
    for name in inputs:
        found = _named_by(name)
        if not found:
            raise InputError(f"{name}: no picture or video is there; an input is a file, a folder or a pattern of them "
                             f"({', '.join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))}), the number of a camera, or - for a "
                             "picture on standard input. Look for a typing error.")
        sources.update(dict.fromkeys(found))
    return list(sources)


def is_video(source: Source) -> bool:
    """Whether it has frames: a camera, or a file with a video's suffix."""
    return isinstance(source, int) or source.suffix.lower() in VIDEO_SUFFIXES


def name_of(source: Source) -> str:
    """What it is called in messages and in JSON."""
    return f"camera{source}" if isinstance(source, int) else source.as_posix()


def drawn_paths(sources: list[Source], folder: Path) -> dict[Source, Path]:
    """Where each drawing goes: under the source's name as .jpg or .mp4, numbered where that name is taken.

    Raises:
        InputError: a drawing would replace a picture or a video.
    """
    drawn: dict[Source, Path] = {}
    taken: set[str] = set()
    for source in sources:
        stem = "stdin" if source == STDIN else Path(name_of(source)).stem
        suffix = ".mp4" if is_video(source) else ".jpg"
        name, number = f"{stem}{suffix}", 1
        while name.lower() in taken:  # some file systems know no upper case
            number += 1
            name = f"{stem}_{number}{suffix}"
        taken.add(name.lower())
        drawn[source] = folder / name
    originals = {source.resolve() for source in sources if isinstance(source, Path)}
    clash = next((path for path in drawn.values() if path.resolve() in originals), None)
    if clash:
        raise InputError(f"--out {folder}: the drawing would replace {clash}, which is an input; drawings need a folder of "
                         "their own. Name another one.")
    return drawn


def read_picture(path: Path) -> np.ndarray:
    """Decode a picture as `read_image` does, and one that comes through standard input.

    Raises:
        InputError: it is not a picture.
    """
    if path != STDIN:
        return read_image(path)
    data = b"" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read()
    picture = decode_image(data)
    if picture is None:
        raise InputError(f"-: {len(data)} bytes on standard input, which are no picture that OpenCV reads; one encoded "
                         "picture is read from there. `python detect.py - < photo.jpg`")
    return picture


def _named_by(name: str) -> list[Source]:
    if name.isascii() and name.isdigit() and len(name) <= CAMERA_DIGITS and not Path(name).exists():
        return [int(name)]
    if Path(name) == STDIN:
        return [STDIN]
    matches = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))
    return [path for match in matches for path in _files(Path(match))]


def _files(path: Path) -> list[Path]:
    """The path itself, or the pictures and videos of a folder."""
    if not path.is_dir():
        return [path]
    known = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in known and file.is_file())
