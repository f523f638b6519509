"""Healthy training images with their boxes: whether boxes sit right, no rule can say, and an eye sees at once."""

from collections import Counter
from collections.abc import Collection
from hashlib import sha256
from heapq import nsmallest

import numpy as np

from ssd_lib.annotations.table import Annotations
from ssd_lib.manifest import Manifest
from ssd_lib.validation.report.elements import Section, Sheet, Text, Tile, plural, visible
from ssd_lib.validation.report.statistics import boxes_per_image
from ssd_lib.validation.report.thumbnails import MOST_MARKS, Place, find_marks, read_picture

TILES = 12


def sample_section(manifest: Manifest, split: str, annotations: Annotations, unwell: Collection[str]) -> Section:
    """Some images at random, always the same ones: those whose names have the smallest hashes.

    Args:
        manifest: where they lie.
        split: what they are for.
        annotations: of the split, of `trainable`.
        unwell: names of images with a fault.
    """
    with_objects = np.flatnonzero(boxes_per_image(annotations)).tolist()
    names = {annotations.images.file_names[place] for place in with_objects} - set(unwell)
    chosen = nsmallest(TILES, names, key=lambda name: sha256(name.encode(errors="surrogateescape")).digest())
    marks = find_marks({split: annotations}, [(split, name) for name in chosen])
    tiles = [Tile((read_picture(manifest.path(name), marks[split, name]),), name, _caption(marks, (split, name)))
             for name in chosen]
    if not tiles:
        return Section(f"Images of {split}, at random", (Text("There is none with objects and without a fault."),))
    words = "Do the boxes sit right, and are the names true? Wrong columns, swapped axes and shifted classes show here alone."
    return Section(f"{plural(len(tiles), 'image')} of {split}, at random", (Text(words), Sheet("", tiles)))


def _caption(marks: dict[Place, tuple], place: Place) -> str:
    found = marks[place]
    words = ", ".join(f"{number} {visible(name)}" for name, number in Counter(mark.name for mark in found).most_common(4))
    return words + (f"; the {MOST_MARKS} largest of {len(found)} are drawn" if len(found) > MOST_MARKS else "")
