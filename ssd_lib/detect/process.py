"""Detect on images and videos and draw them: decoding, net, drawing and encoding run at once, in threads (ahead.py)."""

import sys
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from tqdm import tqdm

from ssd_lib.detect.ahead import map_ahead, read_ahead
from ssd_lib.detect.detector import Detector, Objects
from ssd_lib.detect.inputs import STDIN, Source, is_video, name_of, read_input
from ssd_lib.detect.tracks import above, follow
from ssd_lib.detect.video import (
    frame_count,
    frame_rate,
    frame_size,
    is_cut_short,
    open_video,
    read_frames,
    show_image,
    write_video,
)
from ssd_lib.errors import InputError, visible, visible_lines
from ssd_lib.evaluate.drawing import class_colour, draw_boxes, write_image
from ssd_lib.images import Range

BATCH_SIZE = 8  # images or frames at once, and decoded ahead, which bounds memory
READERS, WRITERS = 8, 4  # threads that decode image files, and that draw and write; they also wait for the disk

Ids = tuple[int, ...]


class FrameResult(NamedTuple):
    """The detections of an image or a frame.

    Attributes:
        name: of the file or the camera.
        frame: index of the frame in the video, from 0; None for an image.
        objects: the detections; None if the file cannot be read, or not to its end.
        ids: of the tracks of the objects; None if they are not tracked.
    """

    name: str
    frame: int | None
    objects: Objects | None
    ids: Ids | None = None


def process_inputs(detector: Detector, targets: Mapping[Source, Path], shown: bool, every: int = 1, track: bool = False
                   ) -> Generator[FrameResult, None, None]:
    """Detect on all images, then on all videos; draw each and print a line on it. Unreadable inputs are reported and skipped.

    Args:
        detector: a model.
        targets: the path of the drawing of each source.
        shown: whether to show the drawings in the open window.
        every, track: as for `run` in command.py.

    Raises:
        InputError: standard input is not an image.
        StateError: a camera is not available, or a drawing cannot be written.
    """
    images = [source for source in targets if isinstance(source, Path) and not is_video(source)]
    with tqdm(total=len(images), unit=" images", leave=False, disable=None) as bar:
        for result in _process_images(detector, images, targets, shown):
            yield result
            bar.update()
    for source in filter(is_video, targets):
        try:
            yield from _process_video(detector, source, targets[source], shown, every, track)
        except InputError as error:
            print_line(f"{error} Skipped.", sys.stderr)
            yield FrameResult(name_of(source), None, None)


def _process_images(detector: Detector, paths: list[Path], targets: Mapping[Source, Path],
                    shown: bool) -> Iterator[FrameResult]:
    deep_range = detector.sixteen_bit_range
    read = partial(_read, deep_range=deep_range, stdin=read_input(STDIN, deep_range) if STDIN in paths else None)

    def finish(path: Path, image: np.ndarray | None, found: Objects | None) -> tuple[Path, Objects | None, np.ndarray | None]:
        if image is None or found is None:
            return path, None, None
        drawing = _draw(image, found)
        write_image(targets[path], drawing)
        return path, found, drawing if shown else None

    with (closing(map_ahead(read, paths, BATCH_SIZE, READERS)) as images,
          closing(map_ahead(lambda one: finish(*one), _detect(detector, images), 0 if shown else WRITERS, WRITERS)) as results):
        for path, found, drawing in results:
            if found is None:
                print_line(f"{path}: not a readable image; skipped", sys.stderr)
            else:
                print_line(f"{path}: {_describe(Counter(found.names))}", sys.stdout)
            yield FrameResult(name_of(path), None, found)
            if drawing is not None and not show_image(drawing, wait_ms=0):
                return


def _read(path: Path, deep_range: Range, stdin: np.ndarray | None) -> tuple[Path, np.ndarray | None]:
    """Return the path and the image; None if it cannot be read."""
    try:
        return path, stdin if path == STDIN else read_input(path, deep_range)
    except InputError:
        return path, None


def _detect(detector: Detector, images: Iterator[tuple[Path, np.ndarray | None]]
            ) -> Iterator[tuple[Path, np.ndarray | None, Objects | None]]:
    """Yield the unreadable images of a batch, then the others with their objects."""
    while batch := list(islice(images, BATCH_SIZE)):
        readable = [(path, image) for path, image in batch if image is not None]
        yield from ((path, None, None) for path, image in batch if image is None)
        yield from ((path, image, above(found, detector.thresholds)) for (path, image), found
                    in zip(readable, detector(image for _, image in readable), strict=True))


def _process_video(detector: Detector, source: Source, target: Path, shown: bool, every: int, track: bool
                   ) -> Iterator[FrameResult]:
    name, counts, ids, index = name_of(source), Counter[str](), set[int](), -1
    with open_video(source) as capture:
        size, total = frame_size(capture), frame_count(capture)
        is_live = not isinstance(source, Path) and total is None
        with (write_video(target, frame_rate(capture) / every, size) as write,
              closing(_detect_frames(detector, read_frames(capture, every), is_live)) as found,
              closing(_draw_frames(follow(found, detector.thresholds) if track else found, is_live)) as results):
            bar = tqdm(results, desc=visible(name, 40), total=total and -(-total // every), unit=" frames", leave=False,
                       disable=None)
            for index, (drawing, objects, of_objects) in enumerate(bar):
                write(drawing)
                counts.update(objects.names)
                ids.update(of_objects or ())
                yield FrameResult(name, every * index, objects, of_objects)
                if shown and not show_image(drawing, wait_ms=1):
                    total, is_live = None, False
                    break
    if index < 0:
        raise InputError(f"{name}: no frame can be decoded. Check that another player plays it"
                         + ("; if it does, download the file: its server or its format does not let it be read in parts."
                            if isinstance(source, str) else "."))
    print_line(f"{name}: {index + 1} frames, {_describe(counts)}" + (f", {len(ids)} tracks" if track else ""), sys.stdout)
    read = min(every * (index + 1), total or 0)
    if is_cut_short(read, total):
        print_line(f"{name}: ends after {read} of {total} frames, the rest cannot be decoded; the detections so far are kept",
                   sys.stderr)
        yield FrameResult(name, None, None)
    elif is_live:
        print_line(f"{name}: ended after {index + 1} frames; the detections so far are kept", sys.stderr)


def _detect_frames(detector: Detector, frames: Iterator[np.ndarray], is_live: bool
                   ) -> Generator[tuple[np.ndarray, Objects], None, None]:
    """Yield each frame and its objects: those of a live source one by one, without delay; else decoder and net work ahead."""
    if is_live:
        yield from ((frame, detector(frame)) for frame in frames)
        return
    with (closing(read_ahead(frames, BATCH_SIZE)) as decoded,
          closing(read_ahead(detector.stream(decoded), BATCH_SIZE)) as found):
        yield from found


def _draw_frames(found: Iterable[tuple[np.ndarray, Objects] | tuple[np.ndarray, Objects, Ids]], is_live: bool
                 ) -> Generator[tuple[np.ndarray, Objects, Ids | None], None, None]:
    """Yield the drawing, the objects and their ids, if they have any."""
    def draw(frame: np.ndarray, objects: Objects, ids: Ids | None = None) -> tuple[np.ndarray, Objects, Ids | None]:
        return _draw(frame, objects, ids), objects, ids

    return map_ahead(lambda one: draw(*one), found, 0 if is_live else BATCH_SIZE)


def _describe(counts: Counter[str]) -> str:
    """Return the number of objects per class: "2 person, 1 dog"."""
    return ", ".join(f"{count} {visible(name, 60)}" for name, count in counts.most_common()) or "no objects"


def _draw(image: np.ndarray, found: Objects, ids: Ids | None = None) -> np.ndarray:
    tags = [""] * len(found.names) if ids is None else [f"#{number} " for number in ids]
    names = [f"{tag}{name} {score:.2f}" for tag, name, score in zip(tags, found.names, found.scores, strict=True)]
    return draw_boxes(image, found.boxes, names, [class_colour(label) for label in found.labels.tolist()])


def print_line(line: str, file: TextIO) -> None:
    """Print a line above the progress bar."""
    tqdm.write(visible_lines(line), file=file)
    file.flush()
