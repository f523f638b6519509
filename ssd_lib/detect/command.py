"""`ssd detect`: detect on images, videos and cameras, draw the detections and write them as JSON."""

import sys
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import numpy as np
from tqdm import tqdm

from ssd_lib.boxes.selection import Nms, Threshold
from ssd_lib.detect.ahead import map_ahead, read_ahead
from ssd_lib.detect.detector import Detector, Objects
from ssd_lib.detect.inputs import STDIN, Source, drawing_paths, find_sources, is_video, name_of, read_input
from ssd_lib.detect.labels import check_labels, write_labels
from ssd_lib.detect.video import (
    frame_count,
    frame_rate,
    frame_size,
    is_cut_short,
    open_video,
    open_window,
    read_frames,
    show_image,
    write_video,
)
from ssd_lib.errors import InputError, visible, visible_lines
from ssd_lib.evaluate.drawing import class_colour, draw_boxes, write_image
from ssd_lib.files import write_json
from ssd_lib.images import Range

if TYPE_CHECKING:
    from ssd_lib.annotations.write import LabelFormat

BATCH_SIZE = 8  # images or frames at once, and decoded ahead, which bounds memory
READERS, WRITERS = 8, 4  # threads that decode image files, and that draw and write; they also wait for the disk


class FrameResult(NamedTuple):
    """The detections of an image or a frame.

    Attributes:
        name: of the file or the camera.
        frame: index of the frame in the video, from 0; None for an image.
        objects: the detections; None if the file cannot be read, or not to its end.
    """

    name: str
    frame: int | None
    objects: Objects | None


def run(inputs: list[str], model: Path, out: Path, threshold: Threshold, top_k: int | None, nms: Nms, nms_iou: float | None,
        json: Path | None, save_labels: "LabelFormat | None", show: bool, device: str) -> int:
    """Detect on all inputs, draw the detections and print a summary.

    Args:
        inputs: as for `find_sources`.
        model, threshold, top_k, nms, nms_iou, device: as for `Detector`.
        out: folder for the drawings.
        json: file for the detections in COCO's results format, or None.
        save_labels: format of the dataset of images and labels that is written to the folder of its name in `out`, or None.
        show: whether to show the drawings in a window.

    Returns:
        The number of inputs that could not be read, or not to their end; each one is reported.

    Raises:
        InputError: an input matches nothing, or an argument or the model is invalid.
        StateError: the model, the device, a camera or the window is not available, or a file cannot be written.
        KeyboardInterrupt: Ctrl-C; the drawings and the JSON of everything up to then are written.
    """
    targets = drawing_paths(find_sources(inputs), out)
    _check_json_path(json, targets)
    if save_labels:
        check_labels(out / save_labels, targets)
    detector = Detector(model, device, threshold, top_k, nms, BATCH_SIZE, nms_iou)
    if show:
        open_window()
    start_s, rows, tally, stopped = time.perf_counter(), [], Counter[str](), False
    labelled: dict[Path, Objects] = {}
    try:
        with closing(process_inputs(detector, targets, show)) as results:
            for result in results:
                rows += results_rows(result, detector.source_ids)
                if save_labels and result.objects:
                    labelled[Path(result.name)] = result.objects
                tally["failed" if result.objects is None else "images" if result.frame is None else "frames"] += 1
    except KeyboardInterrupt:
        stopped = True
    if json:
        write_json(json, rows)
    if save_labels:
        names = [targets[path].stem + path.suffix for path in labelled]  # of drawings, which differ
        write_labels(out / save_labels, save_labels, labelled, names, detector.class_names, detector.source_ids)
    ending = f"; labels in {out / save_labels}" if save_labels else ""
    ending += "; stopped by Ctrl-C" if stopped else ""
    _print(_summary(tally, len(rows), time.perf_counter() - start_s, out) + ending, sys.stdout)
    if stopped:
        raise KeyboardInterrupt
    return tally["failed"]


def process_inputs(detector: Detector, targets: Mapping[Source, Path], shown: bool) -> Generator[FrameResult, None, None]:
    """Detect on all images, then on all videos; draw each and print a line on it. Unreadable inputs are reported and skipped.

    Args:
        detector: a model.
        targets: the path of the drawing of each source.
        shown: whether to show the drawings in the open window.

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
            yield from _process_video(detector, source, targets[source], shown)
        except InputError as error:
            _print(f"{error} Skipped.", sys.stderr)
            yield FrameResult(name_of(source), None, None)


def results_rows(result: FrameResult, source_ids: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return rows in COCO's results format, with the file's name, and the frame of a video, in place of the image id."""
    if result.objects is None:
        return []
    image = {"file_name": result.name} | ({} if result.frame is None else {"frame": result.frame})
    return [image | {"category_id": source_ids[label - 1], "class_name": name, "score": round(float(score), 5),
                     "bbox": [round(float(value), 2) for value in (x1, y1, x2 - x1, y2 - y1)]}
            for (x1, y1, x2, y2), label, score, name in zip(*result.objects, strict=True)]


def _check_json_path(json: Path | None, targets: Mapping[Source, Path]) -> None:
    """Raise InputError before any work if the JSON cannot be written or would replace an input."""
    if json and (json.is_dir() or json.resolve() in {source.resolve() for source in targets if isinstance(source, Path)}):
        reason = "is a folder" if json.is_dir() else "is an input and would be overwritten"
        raise InputError(f"--json {json}: {reason}; a new file or an earlier result is needed. Give another path.")


def _summary(tally: Counter[str], objects: int, elapsed_s: float, folder: Path) -> str:
    """Return the last line: "2 images, 5 objects, 20.1 images/s; drawings in detections"."""
    kinds = [kind for kind in ("images", "frames") if tally[kind]] or ["images"]
    counts, rate = ", ".join(f"{tally[kind]} {kind}" for kind in kinds), sum(tally[kind] for kind in kinds) / elapsed_s
    failed = f"; {tally['failed']} could not be read to the end" if tally["failed"] else ""
    return f"{counts}, {objects} objects, {rate:.1f} {' and '.join(kinds)}/s; drawings in {folder}{failed}"


def _process_images(detector: Detector, paths: list[Path], targets: Mapping[Source, Path],
                    shown: bool) -> Iterator[FrameResult]:
    read = partial(_read, deep_range=detector.sixteen_bit_range, stdin=read_input(STDIN) if STDIN in paths else None)

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
                _print(f"{path}: not a readable image; skipped", sys.stderr)
            else:
                _print(f"{path}: {_describe(Counter(found.names))}", sys.stdout)
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
        yield from ((path, image, found) for (path, image), found
                    in zip(readable, detector(image for _, image in readable), strict=True))


def _process_video(detector: Detector, source: Source, target: Path, shown: bool) -> Iterator[FrameResult]:
    """Detect on the frames, decoded and drawn ahead in threads; on those of a camera one by one, without delay."""
    name, counts, index = name_of(source), Counter[str](), -1
    with open_video(source) as capture:
        size, total = frame_size(capture), frame_count(capture)
        with (write_video(target, frame_rate(capture), size) as write,
              closing(_drawn_frames(detector, read_frames(capture), isinstance(source, Path))) as results):
            bar = tqdm(results, desc=visible(name, 40), total=total, unit=" frames", leave=False, disable=None)
            for index, (drawing, found) in enumerate(bar):
                write(drawing)
                counts.update(found.names)
                yield FrameResult(name, index, found)
                if shown and not show_image(drawing, wait_ms=1):
                    total = None
                    break
    if index < 0:
        raise InputError(f"{name}: no frame can be decoded. Check that another player plays it.")
    _print(f"{name}: {index + 1} frames, {_describe(counts)}", sys.stdout)
    if is_cut_short(index + 1, total):
        _print(f"{name}: ends after {index + 1} of {total} frames, the rest cannot be decoded; the detections so far are kept",
               sys.stderr)
        yield FrameResult(name, None, None)


def _drawn_frames(detector: Detector, frames: Iterator[np.ndarray], ahead: bool
                  ) -> Generator[tuple[np.ndarray, Objects], None, None]:
    """Yield the drawing and the objects of each frame; `ahead`: decoder, net and pen work ahead, each in a thread."""
    def draw(one: tuple[np.ndarray, Objects]) -> tuple[np.ndarray, Objects]:
        return _draw(*one), one[1]

    if not ahead:
        yield from (draw((frame, detector(frame))) for frame in frames)
        return
    with (closing(read_ahead(frames, BATCH_SIZE)) as decoded,
          closing(read_ahead(detector.stream(decoded), BATCH_SIZE)) as found,
          closing(map_ahead(draw, found, BATCH_SIZE)) as drawn):
        yield from drawn


def _describe(counts: Counter[str]) -> str:
    """Return the number of objects per class: "2 person, 1 dog"."""
    return ", ".join(f"{count} {visible(name, 60)}" for name, count in counts.most_common()) or "no objects"


def _draw(image: np.ndarray, found: Objects) -> np.ndarray:
    names = [f"{name} {score:.2f}" for name, score in zip(found.names, found.scores, strict=True)]
    return draw_boxes(image, found.boxes, names, [class_colour(label) for label in found.labels.tolist()])


def _print(line: str, file: TextIO) -> None:
    """Print a line above the progress bar."""
    tqdm.write(visible_lines(line), file=file)
    file.flush()
