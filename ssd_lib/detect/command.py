"""What detect.py does with pictures and videos: finds, draws, shows, tells. Its arguments and exit code are its own."""

import sys
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from tqdm import tqdm

from ssd_lib.detect.detector import Detector, Objects
from ssd_lib.detect.inputs import STDIN, Source, drawn_paths, find_sources, is_video, name_of, read_picture
from ssd_lib.detect.video import frame_count, frame_rate, frame_size, is_cut_short, open_video, read_frames, write_video
from ssd_lib.detect.window import open_window, show_picture
from ssd_lib.errors import InputError
from ssd_lib.evaluate.drawing import class_colour, draw_boxes, write_picture
from ssd_lib.files import write_json
from ssd_lib.nets.postprocess import Nms

BATCH_SIZE = 8  # pictures or frames at once: what is in memory at most


class FrameResult(NamedTuple):
    """A picture or a frame that was looked at.

    Attributes:
        name: of the file or the camera.
        frame: which frame of it, from 0; None of a picture.
        objects: what was found; None where the file could not be read, or not to its end.
    """

    name: str
    frame: int | None
    objects: Objects | None


def run(inputs: list[str], model: Path, out: Path, threshold: float, top_k: int | None, nms: Nms, nms_iou: float | None,
        json: Path | None, show: bool, device: str) -> int:
    """Detect on all that is named, draw it, and say what was found.

    Args:
        inputs: as `find_sources` takes them.
        model, threshold, top_k, nms, nms_iou, device: as a `Detector` takes them.
        out: folder of the drawings.
        json: where COCO's results rows go, or None.
        show: whether to show the drawings in a window.

    Returns:
        How many inputs could not be read, or not to their end; each was named.

    Raises:
        InputError: an input names nothing, or an argument or the model is wrong.
        StateError: the model, the device, a camera or the window is not there, or a file cannot be written.
        KeyboardInterrupt: Ctrl-C; drawings and JSON of all that was found until then are written.
    """
    drawn = drawn_paths(find_sources(inputs), out)
    _refuse_target(json, drawn)
    detector = Detector(model, device, threshold, top_k, nms, BATCH_SIZE, nms_iou)
    if show:
        open_window()
    start_s, rows, tally, stopped = time.perf_counter(), [], Counter[str](), False
    try:
        with closing(look(detector, drawn, show)) as sights:
            for seen in sights:
                rows += results(seen, detector.source_ids)
                tally["bad" if seen.objects is None else "pictures" if seen.frame is None else "frames"] += 1
    except KeyboardInterrupt:
        stopped = True
    if json:
        write_json(json, rows)
    ending = "; stopped by Ctrl-C" if stopped else ""
    _say(_summary(tally, len(rows), time.perf_counter() - start_s, out) + ending, sys.stdout)
    if stopped:
        raise KeyboardInterrupt
    return tally["bad"]


def look(detector: Detector, drawn: Mapping[Source, Path], shown: bool) -> Generator[FrameResult, None, None]:
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
    with tqdm(total=len(pictures), unit=" pictures", leave=False, disable=None) as bar:
        for seen in _look_at_pictures(detector, pictures, drawn, shown):
            yield seen
            bar.update()
    for source in filter(is_video, drawn):
        try:
            yield from _look_at_video(detector, source, drawn[source], shown)
        except InputError as error:
            _say(f"{error} Passed over.", sys.stderr)
            yield FrameResult(name_of(source), None, None)


def results(seen: FrameResult, source_ids: tuple[int, ...]) -> list[dict[str, Any]]:
    """COCO's results rows, with the file's name, and of a video the frame, in the place of an image id."""
    if seen.objects is None:
        return []
    place = {"file_name": seen.name} | ({} if seen.frame is None else {"frame": seen.frame})
    return [place | {"category_id": source_ids[label - 1], "class_name": name, "score": round(float(score), 5),
                     "bbox": [round(float(value), 2) for value in (x1, y1, x2 - x1, y2 - y1)]}
            for (x1, y1, x2, y2), label, score, name in zip(*seen.objects, strict=True)]


def _refuse_target(json: Path | None, drawn: Mapping[Source, Path]) -> None:
    """Raise InputError where the JSON cannot or must not be written, before anything is looked at."""
    if json and (json.is_dir() or json.resolve() in {source.resolve() for source in drawn if isinstance(source, Path)}):
        reason = "is a folder" if json.is_dir() else "is an input, which would be lost"
        raise InputError(f"--json {json}: {reason}; a new file, or an earlier one of its kind, is needed. Give another name.")


def _summary(tally: Counter[str], objects: int, elapsed_s: float, folder: Path) -> str:
    """The last line: "2 pictures, 5 objects, 20.1 pictures/s; drawn in detections"."""
    kinds = [kind for kind in ("pictures", "frames") if tally[kind]] or ["pictures"]
    counts, rate = ", ".join(f"{tally[kind]} {kind}" for kind in kinds), sum(tally[kind] for kind in kinds) / elapsed_s
    bad = f"; {tally['bad']} could not be read to the end" if tally["bad"] else ""
    return f"{counts}, {objects} objects, {rate:.1f} {' and '.join(kinds)}/s; drawn in {folder}{bad}"


def _look_at_pictures(detector: Detector, paths: list[Path], drawn: Mapping[Source, Path], shown: bool) -> Iterator[FrameResult]:
    for batch in (paths[i:i + BATCH_SIZE] for i in range(0, len(paths), BATCH_SIZE)):
        pictures = dict(_readable(batch))
        yield from (FrameResult(name_of(path), None, None) for path in batch if path not in pictures)
        for (path, pixels), found in zip(pictures.items(), detector(list(pictures.values())), strict=True):
            picture = _draw(pixels, found)
            write_picture(drawn[path], picture)
            _say(f"{path}: {_describe(Counter(found.class_names))}", sys.stdout)
            yield FrameResult(name_of(path), None, found)
            if shown and not show_picture(picture, wait_ms=0):
                return


def _readable(paths: list[Path]) -> Iterator[tuple[Path, np.ndarray]]:
    for path in paths:
        try:
            yield path, read_picture(path)
        except InputError:
            if path == STDIN:
                raise
            _say(f"{path}: not a picture that can be read; passed over", sys.stderr)


def _look_at_video(detector: Detector, source: Source, target: Path, shown: bool) -> Iterator[FrameResult]:
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
                yield FrameResult(name, index, found)
                if shown and not show_picture(picture, wait_ms=1):
                    total = None
                    break
    if index < 0:
        raise InputError(f"{name}: no frame of it can be decoded. Does another player play it?")
    _say(f"{name}: {index + 1} frames, {_describe(counts)}", sys.stdout)
    if is_cut_short(index + 1, total):
        _say(f"{name}: ends after {index + 1} of {total} frames, more cannot be decoded; what was found is kept",
             sys.stderr)
        yield FrameResult(name, None, None)


def _describe(counts: Counter[str]) -> str:
    """The objects in words: "2 person, 1 dog"."""
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing found"


def _draw(picture: np.ndarray, found: Objects) -> np.ndarray:
    names = [f"{name} {score:.2f}" for name, score in zip(found.class_names, found.scores, strict=True)]
    return draw_boxes(picture, found.boxes, names, [class_colour(label) for label in found.labels.tolist()])


def _say(line: str, file: TextIO) -> None:
    """Print a line above the progress bar."""
    tqdm.write(line, file=file)
    file.flush()
