"""`ssd detect`: detect on images, videos and cameras, draw the detections and write them as JSON."""

import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssd_lib.boxes.selection import Nms, Threshold, Tiles
from ssd_lib.detect.detector import Detector, Objects
from ssd_lib.detect.inputs import Source, drawing_paths, find_sources
from ssd_lib.detect.labels import check_labels, write_labels
from ssd_lib.detect.process import BATCH_SIZE, FrameResult, print_line, process_inputs
from ssd_lib.detect.tracks import LOW_SCORE
from ssd_lib.detect.video import open_window
from ssd_lib.errors import InputError, plural
from ssd_lib.files import write_json

if TYPE_CHECKING:
    from ssd_lib.annotations.write import LabelFormat

def run(inputs: list[str], model: Path, out: Path, threshold: Threshold, top_k: int | None, nms: Nms, nms_iou: float | None,
        tiles: Tiles | None, json: Path | None, save_labels: "LabelFormat | None", show: bool, device: str, every: int,
        track: bool) -> int:
    """Detect on all inputs, draw the detections and print a summary.

    Args:
        inputs: as for `find_sources`.
        model, threshold, top_k, nms, nms_iou, tiles, device: as for `Detector`.
        out: folder for the drawings.
        json: file for the detections in COCO's results format, or None.
        save_labels: format of the dataset of images and labels that is written to the folder of its name in `out`, or None.
        show: whether to show the drawings in a window.
        every: of videos, use the first of every so many frames.
        track: whether the objects of videos have ids, see tracks.py.

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
    detector = Detector(model, device, threshold, top_k, nms, BATCH_SIZE, nms_iou, tiles, LOW_SCORE if track else 1.0)
    if show:
        open_window()
    start_s, rows, tally, stopped = time.perf_counter(), [], Counter[str](), False
    labelled: dict[Path, Objects] = {}
    try:
        with closing(process_inputs(detector, targets, show, every, track)) as results:
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
    print_line(_summary(tally, len(rows), time.perf_counter() - start_s, out) + ending, sys.stdout)
    if stopped:
        raise KeyboardInterrupt
    return tally["failed"]


def results_rows(result: FrameResult, source_ids: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return rows in COCO's results format, with the file's name, and the frame of a video, in place of the image id.

    Objects that are tracked also have a `track_id`.
    """
    if result.objects is None:
        return []
    image = {"file_name": result.name} | ({} if result.frame is None else {"frame": result.frame})
    tracks = [{}] * len(result.objects.names) if result.ids is None else [{"track_id": number} for number in result.ids]
    return [image | {"category_id": source_ids[label - 1], "class_name": name, "score": round(float(score), 5),
                     "bbox": [round(float(value), 2) for value in (x1, y1, x2 - x1, y2 - y1)]} | track
            for (x1, y1, x2, y2), label, score, name, track in zip(*result.objects, tracks, strict=True)]


def _check_json_path(json: Path | None, targets: Mapping[Source, Path]) -> None:
    """Raise InputError before any work if the JSON cannot be written or would replace an input."""
    if json and (json.is_dir() or json.resolve() in {source.resolve() for source in targets if isinstance(source, Path)}):
        reason = "is a folder" if json.is_dir() else "is an input and would be overwritten"
        raise InputError(f"--json {json}: {reason}; a new file or an earlier result is needed. Give another path.")


def _summary(tally: Counter[str], objects: int, elapsed_s: float, folder: Path) -> str:
    """Return the last line: "2 images, 5 objects, 20.1 images/s; drawings in detections"."""
    kinds = [kind for kind in ("images", "frames") if tally[kind]] or ["images"]
    counts = ", ".join(plural(tally[kind], kind.removesuffix("s")) for kind in kinds)
    rate = sum(tally[kind] for kind in kinds) / elapsed_s
    failed = f"; {tally['failed']} could not be read to the end" if tally["failed"] else ""
    return f"{counts}, {plural(objects, 'object')}, {rate:.1f} {' and '.join(kinds)}/s; drawings in {folder}{failed}"
