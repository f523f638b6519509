"""The zoo of faults, a row each: what is planted into a sound data set, and what must be said of it. See `test_fault_zoo`."""

import math
from typing import NamedTuple

from support.corruptions import (
    HUGE_GIF,
    LAUGHS,
    Plant,
    again,
    all_of,
    box,
    copied,
    data,
    encoded,
    gone,
    half,
    huge_png,
    in_xml,
    marked,
    more,
    of_old_mac,
    of_windows,
    record,
    renamed_boxes,
    swapped,
    tree,
    turned,
    utf_16,
)

ALL = ("coco", "voc", "yolo", "open_images")
COCO, VOC, YOLO, TABLE = ((form,) for form in ALL)
CSV_NAMES = "class-descriptions-boxable.csv"


class Animal(NamedTuple):
    """One row.

    Attributes:
        name: what was done.
        forms: the formats that can have it.
        plant: does it.
        text: stands in what is said; see `planting.said`.
        late: it happens after the download.
    """

    name: str
    forms: tuple[str, ...]
    plant: Plant
    text: str = ""
    late: bool = False


FOUND = {
    # images
    "missing": [
        Animal("deleted", ALL, gone("train/a.jpg"), "train/a.jpg: cannot be read: No such file", late=True),
        Animal("never there", COCO + VOC, gone("train/d.jpg"), "train/d.jpg: cannot be read: No such file"),
        Animal("name leads out", COCO, all_of(copied("train/a.jpg", "../a.jpg"), more("images", id=9, file_name="../../a.jpg")),
               "train/../../a.jpg: leads out of the folder"),
        Animal("name with a zero byte", COCO, more("images", id=9, file_name="a\0.jpg"), "train/a\0.jpg: cannot be read: "),
    ],
    "empty": [Animal("0 bytes", ALL, data("train/a.jpg", b""), "train/a.jpg: 0 bytes")],
    "truncated": [
        Animal("half of it", ALL, data("train/a.jpg", half), "train/a.jpg: JPEG of 500x370, cut short or damaged"),
        Animal("last byte lost", ALL, data("train/a.jpg", lambda old: old[:-1]), "train/a.jpg: JPEG of 500x370, cut short"),
    ],
    "not_an_image": [
        Animal("web page", ALL, data("train/a.jpg", b"<!DOCTYPE html><p>404"), "train/a.jpg: 21 bytes of a web page"),
        Animal("pointer", ALL, data("train/a.jpg", b"version https://git-lfs"), "train/a.jpg: 23 bytes of a pointer of Git"),
    ],
    "too_large": [
        Animal("PNG bomb", ALL, data("train/a.jpg", huge_png(100_000)), "train/a.jpg: Image size (10000000000 pixels)"),
        Animal("GIF bomb", ALL, data("train/a.jpg", HUGE_GIF), "train/a.jpg: Image size (4294836225 pixels)"),
    ],
    "size_differs": [
        Animal("wrong width", COCO, record("images", 3, width=639), "train/d.jpg: 640x480; annotated as 639x480"),
        Animal("wrong width", VOC, swapped("train/d.xml", "<width>640", "<width>639"), "train/d.jpg: 640x480; annotated as"),
        Animal("annotated as turned", COCO, all_of(data("train/d.jpg", turned(6)), record("images", 3, width=480, height=640)),
               "train/d.jpg: 640x480; annotated as 480x640; its EXIF data turn it"),
    ],
    "changed": [Animal("other bytes", ALL, data("train/a.jpg", encoded("JPEG")), "train/a.jpg: ", late=True)],
    "changed_labels": [Animal("a line more", ALL, data("{labels}", lambda content: content + b"\n"),
                              "train: '{labels}' has other bytes than the manifest says", late=True)],
    "wrong_format": [Animal("PNG as .jpg", ALL, data("train/a.jpg", encoded("PNG")), "train/a.jpg: content is PNG")],
    "exif_rotated": [Animal("by EXIF", ALL, data("train/a.jpg", turned(6)), "train/a.jpg: its EXIF orientation is 6")],
    "orphan": [Animal("in no list", COCO, data("train/e.jpg", b"e"), "train/e.jpg: no annotation file lists it")],
    "duplicate_content": [Animal("twice", ALL, again("train", "e.jpg"),
                                 "train: 'train/e.jpg' is the same bytes as 'train/a.jpg'")],
    "train_val_leak": [Animal("train in val", ALL, again("validation", "x.jpg"),
                    "val: 'validation/x.jpg' is the same bytes as 'train/a.jpg' of train")],
    "duplicate_image_id": [
        Animal("of two images", COCO, record("images", 3, id=1), "train/d.jpg: its id 1 is also that of 'train/a.jpg'"),
        Animal("two suffixes", TABLE, all_of(copied("train/d.jpg", "train/a.jpeg"), data("train/a.jpeg", encoded("JPEG"))),
               "train/a.jpg: its id 1 is also that of 'train/a.jpeg'"),
    ],
    "duplicate_file_name": [Animal("listed twice", COCO, more("images", id=9), "train/a.jpg: listed twice, with ids 1 and 9")],
    "broken_labels": [
        Animal("billion laughs", VOC, swapped("{labels}", "<annotation>", LAUGHS),
               "{labels}: line 1, column 13: has a document type"),
        Animal("external entity", VOC, data("{labels}", b'<!DOCTYPE a [<!ENTITY x SYSTEM "b">]><annotation>&x;</annotation>'),
               "{labels}: line 1, column 13: has a document type"),
        Animal("document type", VOC, swapped("{labels}", "<annotation>", '<!DOCTYPE a SYSTEM "a.dtd"><annotation>'),
               "{labels}: line 1, column 27: has a document type"),
        Animal("XML cut short", VOC, data("{labels}", half), "{labels}: line 1, column "),
        Animal("another XML", VOC, data("{labels}", b"<svg/>"), "{labels}: its root is <svg>"),
        Animal("deep XML", VOC, data("{labels}", b"<a>" * 100_000), "{labels}: line 1, column 300001: not XML"),
        Animal("zero byte", VOC, swapped("{labels}", "cat", "c\0t"), "{labels}: line 1, column "),
        Animal("foreign bytes", VOC, swapped("{labels}", "cat", b"c\xe4t"), "{labels}: line 1, column "),
        Animal("encoding that is none", VOC, data("{labels}", b"<?xml version='1.0' encoding='klingon'?><annotation/>"),
               "{labels}: line 1, column "),
        Animal("no box", VOC, data("{labels}", lambda old: old.replace(b"bndbox", b"polygon")),
               "{labels}: object 1 'cat' has no bndbox (it has name, difficult, polygon)"),
        Animal("no number", VOC, swapped("{labels}", "<xmin>40", "<xmin>4O"), "{labels}: object 1 'cat': bndbox/xmin is '4O'"),
        Animal("line cut short", YOLO, data("{labels}", lambda old: old[:-30]), "{labels}: line 2 has "),
        Animal("UTF-16", YOLO, data("{labels}", utf_16), "{labels}: line 1 has the byte 0xff, which is not UTF-8"),
        Animal("foreign bytes", YOLO, data("{labels}", lambda old: old + b"\xe4"), "{labels}: line 3 has the byte 0xe4"),
        Animal("zero byte", YOLO, data("{labels}", lambda old: old + b"\0"), "{labels}: line 3 has a zero byte"),
        Animal("decimal comma", YOLO, swapped("{labels}", ".", ","), "{labels}: line 1 has '0,"),
        Animal("predictions", YOLO, swapped("{labels}", "\n", " 0.9\n"), "{labels}: line 1 has 6 values"),
        Animal("file deleted", VOC + YOLO, gone("{labels}"), "{labels}: cannot be read: No such file", late=True),
    ],
    # boxes; the first one is [39, 222, 445, 148] in an image of 500x370
    "unknown_image": [Animal("id", COCO, record("annotations", 0, image_id=99),
                             "train: annotation 1 of image 99: no image has the id 99")],
    "unknown_category": [
        Animal("id", COCO, record("annotations", 0, category_id=99), "train: {box}: no named category has the id 99"),
        Animal("name", VOC, all_of(data("labels.txt", b"cat\ndog\nperson\nteddy bear"), swapped("{labels}", "cat", "Cat")),
               "train: {box}: its class 'Cat' is not among cat, dog, person, teddy bear; did you mean 'cat'?"),
        Animal("number", YOLO, swapped("{labels}", "0 ", "99 "), "train: {box}: no named category has the id 99"),
        Animal("negative number", YOLO, swapped("{labels}", "0 ", "-1 "), "train: {box}: its class is not among cat, dog"),
        Animal("id", TABLE, swapped("{labels}", "/m/0", "/m/99"), "train: {box}: its class is not among dog, person"),
    ],
    "duplicate_box_id": [Animal("id", COCO, record("annotations", 1, id=1),
                                "train: {box}: another annotation before it has the same id")],
    "non_finite": [
        Animal("NaN", ALL, box(x=math.nan), "train: {box}: bbox [nan, 222.0, "),
        Animal("infinity", ALL, box(height=math.inf), "train: {box}: bbox [39.0, "),
        Animal("endless whole number", COCO, box(x=10**400), "train: {box}: bbox [inf, 222.0, "),
        Animal("longer than Python reads", COCO, swapped("{labels}", "[39", "[" + 5000 * "9"), "train: {box}: bbox [inf"),
    ],
    "inverted": [
        Animal("left and right swapped", ALL, box(width=-20), "train: {box}: width -20.0"),
        Animal("upside down", ALL, box(height=-20), "train: {box}: height -20.0"),
    ],
    "zero_size": [
        Animal("no width", ALL, box(width=0), "train: {box}: width 0.0"),
        Animal("no height", ALL, box(height=0), "train: {box}: height 0.0"),
    ],
    "outside": [
        Animal("far right", ALL, box(x=5000), "train: {box}: bbox [5000.0, 222.0, 445.0, 148.0] in an image of 500x370"),
        Animal("above", COCO + YOLO + TABLE, box(y=-150), "train: {box}: bbox [39.0, -150.0, 445.0, 148.0] in an image"),
        Animal("above", VOC, box(y=-150), "train: {box}: bbox [40.0, -149.0, 444.0, 147.0] in an image"),  # so it counts from 0
        Animal("huge whole number", COCO + VOC + YOLO, box(x=10**30), "train: {box}: bbox [1e+30, 222.0, "),
    ],
    "partly_outside": [
        Animal("right", ALL, box(width=900), "train: {box}: bbox [39.0, 222.0, 900.0, 148.0] in an image of 500x370"),
        Animal("huge whole number", ALL, box(width=10**30), "222.0, 1e+30, 148.0] in an image of 500x370"),
    ],
    # categories
    "duplicate_category_id": [Animal("two names", COCO, more("categories", name="cow"),
                                     "train: category id 1 is both 'cat' and 'cow'")],
    "duplicate_category_name": [Animal("two ids", COCO, more("categories", id=9), "train: categories 1 and 9 are both 'cat'")],
    "empty_category_name": [Animal("a space", COCO, more("categories", id=9, name=" "), "train: category 9 has no name")],
    "similar_category_names": [Animal("capitals", COCO, more("categories", id=9, name="Cat"),
                                      "classes 'cat' and 'Cat' differ only in capitals")],
    "untrained_category": [Animal("val alone", ALL, renamed_boxes("train", "teddy bear", "dog"),
                                  "'teddy bear' has boxes in val and none in train")],
}

REFUSED = [  # what spoils the whole file; the file's name comes first in what is said
    Animal("JSON cut short", COCO, data("{labels}", half), "{labels}: not an annotation file in COCO form (JSONDecodeError"),
    Animal("empty", COCO, data("{labels}", b""), "{labels}: not an annotation file in COCO form (JSONDecodeError"),
    Animal("key twice", COCO, swapped("{labels}", '"bbox"', '"bbox": [1, 2, 3, 4], "bbox"'),
           "{labels}: key 'bbox' stands twice in one object (of id 1)"),
    Animal("deep JSON", COCO, swapped("{labels}", "{", f'{{"x": {"[" * 100_000}{"]" * 100_000}, '), "{labels}: "),
    Animal("captions", COCO, tree(lambda document: document.update(annotations=[{"id": 1, "image_id": 1, "caption": "A"}])),
           "{labels}: holds captions"),
    Animal("results", COCO, data("{labels}", b'[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]'),
           "{labels}: not an annotation file in COCO form"),
    Animal("UTF-16", COCO, data("{labels}", utf_16), "{labels}: byte 0 is not UTF-8"),
    Animal("foreign bytes", COCO, swapped("{labels}", '"cat"', b'"c\xe4t"'), "{labels}: byte "),
    Animal("foreign bytes in a name", COCO, swapped("{labels}", '"a.jpg"', b'"\xe4.jpg"'), "{labels}: not an annotation file"),
    Animal("zero byte", COCO, data("{labels}", lambda old: old + b"\0"), "{labels}: not an annotation file"),
    Animal("huge id", COCO, record("annotations", 0, id=10**30), "{labels}: annotations[0] (id 1000"),
    Animal("box of three numbers", COCO, tree(lambda document: document["annotations"][0]["bbox"].pop()),
           "{labels}: annotations[0] (id 1) has bbox [39, 222, 445]"),
    Animal("no categories", COCO, tree(lambda document: document.pop("categories")), "{labels}: no 'categories' among"),
    Animal("absolute names", COCO, tree(lambda document: [row.update(file_name="/a.jpg") for row in document["images"]]),
           "{labels}: 4 images, none of them with a relative file_name"),
    Animal("table cut short", TABLE, data("{labels}", lambda old: old[:-60]), "{labels}: line 7 has "),
    Animal("no column", TABLE, swapped("{labels}", "XMax", "Xmax"), "{labels}: line 1 names no column XMax"),
    Animal("empty", TABLE, data("{labels}", b""), "{labels}: line 1 names no column ImageID"),
    Animal("UTF-16", TABLE, data("{labels}", utf_16), "{labels}: line 1 names no column ImageID"),
    Animal("no number", TABLE, swapped("{labels}", ",0.", ",O."), "{labels}: line 2 has XMin 'O."),
    Animal("annotations deleted", COCO + TABLE, gone("{labels}"), "{labels}: cannot be read: No such file", late=True),
    Animal("no name", TABLE, swapped(CSV_NAMES, "/m/1,dog", "/m/1"), f"{CSV_NAMES}: line 2 is '/m/1'"),
    Animal("id of two names", TABLE, swapped(CSV_NAMES, "/m/1", "/m/0"), f"{CSV_NAMES}: line 2 calls '/m/0' 'dog', a line"),
    Animal("foreign bytes in names", TABLE, swapped(CSV_NAMES, "cat", b"c\xe4t"), f"{CSV_NAMES}: byte 6 is not UTF-8"),
    Animal("no YAML", YOLO, data("data.yaml", b"names: [cat\n"), "data.yaml: not YAML: "),
    Animal("code in YAML", YOLO, data("data.yaml", b"names: !!python/object/apply:os._exit [9]"), "data.yaml: not YAML: "),
    Animal("YAML bomb", YOLO, data("data.yaml", b"a: &a [x]\nb: &b [*a, *a]\nnames: [*b, *b]\n"),
           "data.yaml: names: the name of class 0 is of type list"),
    Animal("names with a hole", YOLO, data("data.yaml", b"names: {0: a, 2: b}"), "data.yaml: names has the keys 0, 2; they"),
    Animal("name twice", YOLO, swapped("data.yaml", '"dog"', '"cat"'), "data.yaml: names: classes 0 and 1 are both called"),
    Animal("wrong count", YOLO, swapped("data.yaml", "{", '{"nc": 3, '), "data.yaml: nc is 3, but there are 4 names"),
    Animal("no such folder", YOLO, swapped("data.yaml", '"validation"', '"vali"'), "data.yaml: val is 'vali', which is no"),
    Animal("name twice", VOC, data("labels.txt", b"cat\ncat\n"), "labels.txt: classes 0 and 1 are both called 'cat'"),
    Animal("foreign bytes in names", VOC, data("labels.txt", b"c\xe4t\n"), "labels.txt: byte 1 is not UTF-8"),
]

SOUND = [  # what looks odd and is none; it is read as it was meant
    Animal("byte order mark", ALL, data("{labels}", marked)),
    Animal("lines of Windows", ALL, data("{labels}", of_windows)),
    Animal("lines of an old Mac", ALL, data("{labels}", of_old_mac)),
    Animal("empty lines at the end", ALL, data("{labels}", lambda old: old + b"\n\n")),
    Animal("upright by EXIF", ALL, data("train/a.jpg", turned(1))),
    Animal("UTF-16", VOC, data("{labels}", in_xml("utf-16"))),
    Animal("Latin-1", VOC, data("{labels}", in_xml("latin-1"))),
    Animal("no text where no objects are", YOLO, gone("train/d.txt")),
    Animal("byte order mark in names", YOLO, data("data.yaml", marked)),
    Animal("UTF-16 names", YOLO, data("data.yaml", utf_16)),
    Animal("byte order mark in names", TABLE, data(CSV_NAMES, marked)),
    Animal("UTF-16 names", TABLE, data(CSV_NAMES, utf_16)),
    Animal("names on lines of an old Mac", TABLE, data(CSV_NAMES, of_old_mac)),
    Animal("rows of other images", TABLE, data("{labels}", lambda old: old + old.splitlines()[1].replace(b"a", b"z", 1))),
]
