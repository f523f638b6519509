"""What detect.py does with each picture and each video: finds, draws, shows, tells. Arguments and exit codes are its own."""

import sys
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from tqdm import tqdm

from ssd_lib.errors import InputError
from ssd_lib.infer.detector import Detector, Objects
from ssd_lib.infer.drawing import class_colour, draw_boxes, write_picture
from ssd_lib.infer.inputs import STDIN, Source, is_video, name_of, read_picture
from ssd_lib.infer.video import frame_count, frame_rate, frame_size, is_cut_short, open_video, read_frames, write_video
from ssd_lib.infer.window import show

BATCH_SIZE = 8  # pictures or frames at once: what is in memory at most


class Seen(NamedTuple):
    """A picture or a frame that was looked at.

    Attributes:
        name: of the file or the camera.
        frame: which frame of it, from 0; None of a picture.
        objects: what was found; None where the file could not be read, or not to its end.
    """

    name: str
    frame: int | None
    objects: Objects | None


def look(detector: Detector, drawn: Mapping[Source, Path], shown: bool) -> Generator[Seen, None, None]:
    """Look at all pictures, then at all videos; draw each, and say a line of it. What cannot be read is named and passed over.

    Args:
        detector: a model.
        drawn: for each source, where its drawing goes.
        shown: whether a window is open, to show the drawings in.

    Raises:
        InputError: standard input is no picture.
        StateError: a camera is not there, or a drawing cannot be written.
    """
    pictures = [source for source in drawn if isinstance(source, Path) and not is_video(source)]
    yield from _look_at_pictures(detector, pictures, drawn, shown)
    for source in filter(is_video, drawn):
        try:
            yield from _look_at_video(detector, source, drawn[source], shown)
        except InputError as error:
            _say(f"{error} Passed over.", sys.stderr)
            yield Seen(name_of(source), None, None)


def results(seen: Seen, source_ids: tuple[int, ...]) -> list[dict[str, Any]]:
    """COCO's results rows, with the file's name, and of a video the frame, in the place of an image id."""
    if seen.objects is None:
        return []
    place = {"file_name": seen.name} | ({} if seen.frame is None else {"frame": seen.frame})
    return [place | {"category_id": source_ids[label - 1], "class_name": name, "score": round(float(score), 5),
                     "bbox": [round(float(value), 2) for value in (x1, y1, x2 - x1, y2 - y1)]}
            for (x1, y1, x2, y2), label, score, name in zip(*seen.objects, strict=True)]


def describe(class_names: Iterable[str]) -> str:
    """The objects in words: "2 person, 1 dog"."""
    return ", ".join(f"{count} {name}" for name, count in Counter(class_names).most_common()) or "nothing found"


def _look_at_pictures(detector: Detector, paths: list[Path], drawn: Mapping[Source, Path], shown: bool) -> Iterator[Seen]:
    for i in tqdm(range(0, len(paths), BATCH_SIZE), unit_scale=BATCH_SIZE, unit=" pictures", leave=False, disable=None):
        batch = paths[i:i + BATCH_SIZE]
        pictures = dict(_readable(batch))
        yield from (Seen(name_of(path), None, None) for path in batch if path not in pictures)
        for (path, pixels), found in zip(pictures.items(), detector(list(pictures.values())), strict=True):
            picture = _draw(pixels, found)
            write_picture(drawn[path], picture)
            _say(f"{path}: {describe(found.class_names)}", sys.stdout)
            yield Seen(name_of(path), None, found)
            if shown and not show(picture, wait_ms=0):
                return


def _readable(paths: list[Path]) -> Iterator[tuple[Path, np.ndarray]]:
    for path in paths:
        try:
            yield path, read_picture(path)
        except InputError:
            if path == STDIN:
                raise
            _say(f"{path}: not a picture that can be read; passed over", sys.stderr)


def _look_at_video(detector: Detector, source: Source, target: Path, shown: bool) -> Iterator[Seen]:
    """Look at frame after frame, with no more than a batch of them in memory; of a camera, at each as it comes."""
    name, counts, index = name_of(source), Counter[str](), -1
    with open_video(source) as capture:
        frames, size, total = read_frames(capture), frame_size(capture), frame_count(capture)
        bar = tqdm(frames, desc=name, total=total, unit=" frames", leave=False, disable=None)
        found_in = detector.stream(bar) if isinstance(source, Path) else ((frame, detector(frame)) for frame in bar)
        with write_video(target, frame_rate(capture), size) as write:
            for index, (frame, found) in enumerate(found_in):
                picture = _draw(frame, found)
                write(picture)
                counts.update(found.class_names)
                yield Seen(name, index, found)
                if shown and not show(picture, wait_ms=1):
                    total = None
                    break
    if index < 0:
        raise InputError(f"{name}: no frame of it can be decoded. Does another player play it?")
    _say(f"{name}: {index + 1} frames, {describe(counts.elements())}", sys.stdout)
    if is_cut_short(index + 1, total):
        _say(f"{name}: ends after {index + 1} of {total} frames, more cannot be decoded; what was found is kept",
             sys.stderr)
        yield Seen(name, None, None)


def _draw(picture: np.ndarray, found: Objects) -> np.ndarray:
    names = [f"{name} {score:.2f}" for name, score in zip(found.class_names, found.scores, strict=True)]
    return draw_boxes(picture, found.boxes, names, [class_colour(label) for label in found.labels.tolist()])


def _say(line: str, file: TextIO) -> None:
    """Print a line above the progress bar."""
    tqdm.write(line, file=file)
    file.flush()
