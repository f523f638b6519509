"""The sections of the report on the numbers, sizes and shapes of objects, and on sizes of images."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from ssd_lib.annotations.table import Annotations
from ssd_lib.boxes.prior_fit import GOOD_IOU
from ssd_lib.boxes.prior_levels import PUBLISHED
from ssd_lib.report.elements import Bars, Section, Table, Text, percent
from ssd_lib.validation.report.statistics import (
    Sizes,
    boxes_per_image,
    good_prior_shares,
    histogram,
    image_sizes,
    relative_ratios,
    relative_sides,
)

SMALLEST_PRIORS = {nets: priors.levels[0].min_size for nets, priors in reversed(PUBLISHED.items())}  # as shares of the image
MANY = 0.1  # a share of the objects that is worth advice
LONGEST_RATIO = 3  # of all published priors
COUNT_EDGES = (1, 2, 3, 4, 5, 10, 20, 50, 100)
SIDE_EDGES = (0.0125, 0.0175, 0.025, 0.035, 0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.56, 0.8)  # steps of about sqrt 2
RATIO_EDGES = (1 / 5, 1 / 3, 1 / 2, 1 / 1.2, 1.2, 2, 3, 5)
RATIO_LABELS = ("below 1:5", "1:5 to 1:3", "1:3 to 1:2", "1:2 to 1:1.2", "about 1:1", "1.2:1 to 2:1", "2:1 to 3:1",
                "3:1 to 5:1", "above 5:1")
LISTED_SIZES = 10


def objects_per_image_section(splits: Mapping[str, Annotations]) -> Section:
    """Return a chart of the number of objects per image."""
    series = {split: histogram(boxes_per_image(annotations), COUNT_EDGES).tolist() for split, annotations in splits.items()}
    labels = [f"{low}" if high == low + 1 else f"{low} to {high - 1}" for low, high in pairwise((0, *COUNT_EDGES))]
    return Section("Objects per image",
                   (Bars("Images by number of objects", [*labels, f"{COUNT_EDGES[-1]} or more"], series),))


def object_sizes_section(splits: Mapping[str, Annotations]) -> Section:
    """Return a chart of the sizes of the objects, with the smallest priors marked."""
    sides = {split: relative_sides(annotations) for split, annotations in splits.items()}
    edges = [f"{100 * edge:g} %" for edge in SIDE_EDGES]
    labels = [f"below {edges[0]}", *(f"{low} to {high}" for low, high in pairwise(edges)), f"{edges[-1]} or more"]
    marks: dict[int, str] = {}
    for nets, prior in SMALLEST_PRIORS.items():
        row, text = int(np.searchsorted(SIDE_EDGES, prior - 1e-9)) + 1, f"of {nets}, {100 * prior:.0f} %"
        marks[row] = f"{marks[row]}; {text}" if row in marks else f"smallest prior {text}"
    series = {split: histogram(values, SIDE_EDGES).tolist() for split, values in sides.items()}
    bars = Bars("Objects by side length, relative to the image", labels, series, marks)
    return Section("Object sizes", (*_prior_advice(next(iter(splits.values()))), bars))


def object_shapes_section(splits: Mapping[str, Annotations]) -> Section:
    """Return a chart of the aspect ratios of the objects."""
    ratios = {split: relative_ratios(annotations) for split, annotations in splits.items()}
    first = next(iter(ratios.values()))
    extreme = int(((first > LONGEST_RATIO) | (first < 1 / LONGEST_RATIO)).sum())
    text = (f"{percent(extreme, len(first))} of the objects have an aspect ratio above {LONGEST_RATIO}:1 or below "
            f"1:{LONGEST_RATIO}. No published prior does: the more extreme an object is, the worse it is detected.")
    bars = Bars("Objects by aspect ratio (width:height), after the image is resized to a square", RATIO_LABELS,
                {split: histogram(values, RATIO_EDGES).tolist() for split, values in ratios.items()})
    return Section("Object shapes", (Text(text, "advice" if extreme > MANY * len(first) else "plain"), bars))


def image_sizes_section(splits: Mapping[str, Annotations]) -> Section:
    """Return tables of the orientations and the most frequent sizes of the images."""
    sizes = {split: image_sizes(annotations, LISTED_SIZES) for split, annotations in splits.items()}
    orientation = Table(("split", "landscape", "portrait", "square", "different sizes"),
                        [(split, *(f"{n:,}" for n in (found.landscape, found.portrait, found.square, found.distinct)))
                         for split, found in sizes.items()])
    rows = _size_rows(next(iter(sizes.values())), len(next(iter(splits.values())).images))
    return Section("Image sizes", (orientation, Table((f"most frequent in {next(iter(splits))}", "images", "share"), rows)))


def _prior_advice(annotations: Annotations) -> Iterator[Text]:
    if len(annotations.boxes) == 0:
        return
    good = good_prior_shares(annotations)
    shares = ", ".join(f"{100 * share:.0f} % for {nets}" for nets, share in good.items())
    many = min(good.values()) < 1 - MANY
    yield Text(f"Share of the objects that have a good prior, one with an IoU of {GOOD_IOU} or more: {shares}. Nets with a "
               "feature pyramid (lite0-fpn, mb2-fpn) adapt to each object instead.", "advice" if many else "plain")
    if many:
        yield Text("These nets learn an object without one badly; most such objects are too small or too narrow. A larger "
                   "`model.image_size` does not help, because these priors are relative to the image: use a net with a larger "
                   "share, `model.net: lite0-fpn`, which adapts to each object, or `model.priors: auto`, which fits the priors "
                   "to the objects.", "advice")


def _size_rows(sizes: Sizes, images: int) -> Sequence[Sequence[str]]:
    return [(f"{width} × {height}", f"{number:,}", percent(number, images)) for width, height, number in sizes.most_frequent]
