"""Tiles: find small objects in large images, in overlapping parts of an image and in the whole of it, with NumPy and OpenCV.

A net sees an image of any size as a small square, and objects that are small in the image get lost. In a tile they are larger,
while the whole image still shows what is larger than a tile. Source: Akyon et al. 2022, arXiv 2202.06934, "slicing aided
inference".
"""

from collections.abc import Callable, Iterable, Sequence

import cv2
import numpy as np

from ssd_lib.boxes.selection import Nms, Postprocess, Selected, Tiles, select
from ssd_lib.plain_values import MOST_TILES

OVERLAP = 0.2  # part of its side that a tile shares with the next one, as in the paper
AUTO_SCALE = 2.0  # "auto": a side of a tile is about so many times that of the net's input
CUT_MARGIN = 0.02  # a box that comes so near to a border inside the image is cut by it; part of the side of the tile

ScorePriors = Callable[[np.ndarray], tuple[Iterable[np.ndarray], Iterable[np.ndarray]]]  # (B, S, S, 3) uint8 -> scores, boxes


def detect_in_tiles(image: np.ndarray, tiles: Tiles, side: int, score_priors: ScorePriors, postprocess: Postprocess,
                    nms: Nms = "hard") -> Selected:
    """Detect in the whole image and in its tiles, in one batch.

    Args:
        image: (H, W, 3) uint8.
        tiles: as for `tile_windows`.
        side: of the net's input in pixels.
        score_priors: runs the net.
        postprocess: thresholds and limits, which hold in each tile and for the image.
        nms: within a tile.
    """
    windows = tile_windows(image.shape[:2], tiles, side)
    parts = np.stack([cv2.resize(image[y1:y2, x1:x2], (side, side), interpolation=cv2.INTER_LINEAR)
                      for x1, y1, x2, y2 in windows.tolist()])
    found = [select(scores, boxes, postprocess, nms) for scores, boxes in zip(*score_priors(parts), strict=True)]
    return merge_tiles(found, windows, postprocess)


def tile_windows(size: tuple[int, ...], tiles: Tiles, side: int) -> np.ndarray:
    """Return the whole image, and its tiles if there is more than one: a grid in which neighbours overlap by `OVERLAP`.

    Guarantees: the grid covers the image; of all grids of at most so many tiles it has the shortest longest side of a tile.

    Args:
        size: (height, width) of the image in pixels.
        tiles: at most so many; 0 for none; "auto" for sides of about `AUTO_SCALE` times `side`, and at most `MOST_TILES`.
        side: of the net's input in pixels.

    Returns:
        (T, 4) int64, xyxy in pixels; the first is the whole image.
    """
    height, width = size
    wanted = round(height / (AUTO_SCALE * side)) * round(width / (AUTO_SCALE * side)) if tiles == "auto" else tiles
    most = min(max(1, wanted), MOST_TILES)
    columns = min(range(1, most + 1), key=lambda count: max(height / (most // count), width / count))
    rows = most // columns
    whole = (0, 0, width, height)
    if rows * columns == 1:
        return np.array([whole])
    grid = [(x1, y1, x2, y2) for y1, y2 in _spans(height, rows) for x1, x2 in _spans(width, columns)]
    return np.array([whole, *grid])


def merge_tiles(found: Sequence[Selected], windows: np.ndarray, postprocess: Postprocess) -> Selected:
    """Merge the detections of the tiles of an image, by NMS within each class that knows what a tile cannot show.

    Two boxes are the same object if their IoU is above `nms_iou` within what both tiles show: an object that a border cuts
    in one tile and that is whole in another, or its halves in two tiles, which agree where the tiles overlap. Boxes that no
    border cuts are kept before those that are cut, each with the best score of its group. Of a group of cut boxes, the box
    around all remains.

    Guarantees: the detections of a single window are returned as they are; between boxes that both tiles show whole, it is NMS.

    Args:
        found: the detections in each window, boxes in [0, 1] of the window.
        windows: (T, 4) of `tile_windows`, the first is the whole image.
        postprocess: `nms_iou` and `max_detections`.
    """
    if len(found) == 1:
        return found[0]
    of = np.repeat(np.arange(len(found)), [len(one.scores) for one in found])
    labels, scores = (np.concatenate([getattr(one, name) for one in found]) for name in ("labels", "scores"))
    own = windows[of].astype(np.float64)
    sides = own[:, 2:] - own[:, :2]
    boxes = np.concatenate([one.boxes for one in found]) * np.tile(sides, 2) + np.tile(own[:, :2], 2)
    inner = own != windows[0]  # borders within the image
    is_cut = (inner & (np.abs(boxes - own) <= CUT_MARGIN * np.tile(sides, 2))).any(axis=1)
    visible = _intersections(boxes, windows)[:, of]  # of box i in the window of box j
    common = _intersections(boxes, boxes)
    is_same = (labels[:, None] == labels) & (common > postprocess.nms_iou * (visible + visible.T - common))
    kept, is_free = [], np.ones(len(boxes), dtype=bool)
    for index in np.lexsort((-scores, is_cut)).tolist():
        if is_free[index]:
            group = np.flatnonzero(is_free & is_same[index])
            is_free[group] = False
            if is_cut[index]:
                boxes[index] = np.concatenate([boxes[group, :2].min(axis=0), boxes[group, 2:].max(axis=0)])
            scores[index] = scores[group].max()
            kept.append(index)
    best = np.array(kept, dtype=np.int64)[np.argsort(-scores[kept], kind="stable")][:postprocess.max_detections]
    return Selected((boxes[best] / np.tile(windows[0, 2:], 2)).astype(np.float32), labels[best], scores[best])


def _spans(length: int, count: int) -> list[tuple[int, int]]:
    """Return the (begin, end) of `count` equal parts that overlap and cover 0 to `length`."""
    side = length / (count - (count - 1) * OVERLAP)
    begins = np.linspace(0, length - side, count)
    return [(int(begin), min(length, int(np.ceil(begin + side)))) for begin in begins.tolist()]


def _intersections(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return (N, M), the area that each of (N, 4) boxes shares with each of (M, 4) others."""
    left, top, right, bottom = boxes.T[:, :, None]
    width = np.minimum(right, others[:, 2]) - np.maximum(left, others[:, 0])
    height = np.minimum(bottom, others[:, 3]) - np.maximum(top, others[:, 1])
    return np.maximum(width, 0) * np.maximum(height, 0)
