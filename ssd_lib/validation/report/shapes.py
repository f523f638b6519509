"""How many, how large and how long the objects are, against what the nets' priors can find."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from ssd_lib.annotations.table import Annotations
from ssd_lib.validation.report.elements import Bars, Section, Table, Text, percent
from ssd_lib.validation.report.statistics import (
    Sizes,
    boxes_per_image,
    histogram,
    image_sizes,
    relative_ratios,
    relative_sides,
)

# Sides of the smallest priors as shares of the image: the scale rule of arXiv 1512.02325 sec. 2.2 with the numbers of the
# configs that each kind of net was published with, in pixels of 300.
SMALLEST_PRIORS = {"resnet nets": 21 / 300, "vgg16-ssd": 30 / 300, "mobile nets and sq-ssd-lite": 60 / 300}
MANY = 0.1  # a share of the objects that is worth advice
LONGEST_RATIO = 3  # of all published priors
COUNT_EDGES = (1, 2, 3, 4, 5, 10, 20, 50, 100)
SIDE_EDGES = (0.0125, 0.0175, 0.025, 0.035, 0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.56, 0.8)  # steps of about sqrt 2
RATIO_EDGES = (1 / 5, 1 / 3, 1 / 2, 1 / 1.2, 1.2, 2, 3, 5)
RATIO_NAMES = ("above 1:5", "1:5 to 1:3", "1:3 to 1:2", "1:2 to 1:1.2", "about square", "1.2:1 to 2:1", "2:1 to 3:1",
               "3:1 to 5:1", "above 5:1")
LISTED_SIZES = 10


def counts_section(splits: Mapping[str, Annotations]) -> Section:
    """How many objects the images have."""
    series = {split: histogram(boxes_per_image(annotations), COUNT_EDGES).tolist() for split, annotations in splits.items()}
    ends = [f"{low}" if high == low + 1 else f"{low} to {high - 1}"
            for low, high in pairwise((0, *COUNT_EDGES))]
    bars = Bars("Images by number of objects", [*ends, f"{COUNT_EDGES[-1]} and more"], series)
    return Section("Objects on an image", (bars,))


def sides_section(splits: Mapping[str, Annotations]) -> Section:
    """How large the objects are, with the smallest priors marked."""
    sides = {split: relative_sides(annotations) for split, annotations in splits.items()}
    edges = [f"{100 * edge:g} %" for edge in SIDE_EDGES]
    labels = [f"below {edges[0]}", *(f"{low} to {high}" for low, high in pairwise(edges)), f"{edges[-1]} and more"]
    marks = {int(np.searchsorted(SIDE_EDGES, prior - 1e-9)) + 1: f"smallest prior of {nets}, {100 * prior:.0f} %"
             for nets, prior in SMALLEST_PRIORS.items()}
    series = {split: histogram(values, SIDE_EDGES).tolist() for split, values in sides.items()}
    bars = Bars("Objects by side, as a share of the image's", labels, series, marks)
    return Section("Sizes of objects", (*_on_small_objects(next(iter(sides.values()))), bars))


def ratios_section(splits: Mapping[str, Annotations]) -> Section:
    """How long the objects are."""
    ratios = {split: relative_ratios(annotations) for split, annotations in splits.items()}
    first = next(iter(ratios.values()))
    long = int(((first > LONGEST_RATIO) | (first < 1 / LONGEST_RATIO)).sum())
    text = (f"{percent(long, len(first))} of the objects are longer than {LONGEST_RATIO}:1 or higher than 1:{LONGEST_RATIO}; "
            "no prior is, so the further they are from it, the worse they are found.")
    bars = Bars("Objects by width : height, in the square that a net sees", RATIO_NAMES,
                {split: histogram(values, RATIO_EDGES).tolist() for split, values in ratios.items()})
    return Section("Shapes of objects", (Text(text, "advice" if long > MANY * len(first) else "plain"), bars))


def images_section(splits: Mapping[str, Annotations]) -> Section:
    """What sizes the images have."""
    sizes = {split: image_sizes(annotations, LISTED_SIZES) for split, annotations in splits.items()}
    orientation = Table(("split", "landscape", "portrait", "square", "different sizes"),
                        [(split, *(f"{n:,}" for n in (found.landscape, found.portrait, found.square, found.distinct)))
                         for split, found in sizes.items()])
    rows = _size_rows(next(iter(sizes.values())), len(next(iter(splits.values())).images))
    return Section("Sizes of images", (orientation, Table((f"commonest in {next(iter(splits))}", "images", "share"), rows)))


def _on_small_objects(sides: np.ndarray) -> Iterator[Text]:
    below = {nets: int((sides < prior).sum()) for nets, prior in SMALLEST_PRIORS.items()}
    shares = ", ".join(f"{percent(number, len(sides))} for {nets} ({100 * SMALLEST_PRIORS[nets]:.0f} % of the side)"
                       for nets, number in reversed(below.items()))
    many = max(below.values()) > MANY * len(sides)
    yield Text(f"Share of the objects smaller than the smallest prior: {shares}.", "advice" if many else "plain")
    if many:
        yield Text("Such objects are found badly. A larger `model.image_size` does not help, for priors are shares of the "
                   "image: take `model.net: vgg16-ssd`, or `model.priors: auto`, which fits them to these objects.", "advice")


def _size_rows(sizes: Sizes, images: int) -> Sequence[Sequence[str]]:
    return [(f"{width} × {height}", f"{number:,}", percent(number, images)) for width, height, number in sizes.commonest]
