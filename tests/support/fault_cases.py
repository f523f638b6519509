"""The faults that validate must find, a row each: a corruption of a sound dataset, and the text that reports it."""

import math
from typing import NamedTuple

from support.corruptions import (
    HUGE_GIF,
    LAUGHS,
    Corruption,
    all_of,
    appended,
    as_fractions,
    box,
    coco_document,
    copied,
    data,
    deleted,
    duplicated,
    encoded,
    exif_oriented,
    half,
    huge_png,
    in_encoding,
    record,
    renamed_boxes,
    replaced,
    utf_16,
    with_byte_order_mark,
    with_mac_lines,
    with_windows_lines,
)

ALL = ("coco", "voc", "yolo", "open_images")
COCO, VOC, YOLO, TABLE = ((form,) for form in ALL)
CSV_NAMES = "class-descriptions-boxable.csv"


class FaultCase(NamedTuple):
    """One row.

    Attributes:
        name: what is changed.
        forms: the formats that can have the fault.
        corrupt: the change.
        text: part of the text of the fault; see `corruptions.fill_in`.
        late: the change happens after the download.
    """

    name: str
    forms: tuple[str, ...]
    corrupt: Corruption
    text: str = ""
    late: bool = False


FOUND = {
    # images
    "missing": [
        FaultCase("deleted", ALL, deleted("train/a.jpg"), "train/a.jpg: cannot be read: No such file", late=True),
        FaultCase("never there", COCO + VOC, deleted("train/d.jpg"), "train/d.jpg: cannot be read: No such file"),
        FaultCase("name leads out", COCO,
                  all_of(copied("train/a.jpg", "../a.jpg"), appended("images", id=9, file_name="../../a.jpg")),
                  "train/../../a.jpg: leads out of the folder"),
        FaultCase("name with a zero byte", COCO, appended("images", id=9, file_name="a\0.jpg"),
                  "train/a\0.jpg: cannot be read: "),
    ],
    "empty": [FaultCase("0 bytes", ALL, data("train/a.jpg", b""), "train/a.jpg: 0 bytes")],
    "truncated": [
        FaultCase("half of it", ALL, data("train/a.jpg", half), "train/a.jpg: JPEG of 500x370, cut short or damaged"),
        FaultCase("last byte lost", ALL, data("train/a.jpg", lambda old: old[:-1]), "train/a.jpg: JPEG of 500x370, cut short"),
    ],
    "not_an_image": [
        FaultCase("web page", ALL, data("train/a.jpg", b"<!DOCTYPE html><p>404"), "train/a.jpg: 21 bytes of a web page"),
        FaultCase("pointer", ALL, data("train/a.jpg", b"version https://git-lfs"), "train/a.jpg: 23 bytes of a pointer of Git"),
    ],
    "too_large": [
        FaultCase("PNG bomb", ALL, data("train/a.jpg", huge_png(100_000)), "train/a.jpg: Image size (10000000000 pixels)"),
        FaultCase("GIF bomb", ALL, data("train/a.jpg", HUGE_GIF), "train/a.jpg: Image size (4294836225 pixels)"),
    ],
    "size_differs": [
        FaultCase("wrong width", COCO, record("images", 3, width=639), "train/d.jpg: 640x480; annotated as 639x480"),
        FaultCase("wrong width", VOC, replaced("train/d.xml", "<width>640", "<width>639"),
                  "train/d.jpg: 640x480; annotated as"),
        FaultCase("neither as stored nor as turned", COCO,
                  all_of(data("train/d.jpg", exif_oriented(6)), record("images", 3, width=480, height=641)),
                  "train/d.jpg: 480x640 after EXIF turns it from 640x480; annotated as 480x641"),
    ],
    "changed": [FaultCase("other bytes", ALL, data("train/a.jpg", encoded("JPEG")), "train/a.jpg: ", late=True)],
    "changed_labels": [FaultCase("a line more", ALL, data("{labels}", lambda content: content + b"\n"),
                                 "train: '{labels}' differs from the file that the manifest lists", late=True)],
    "wrong_format": [FaultCase("PNG as .jpg", ALL, data("train/a.jpg", encoded("PNG")), "train/a.jpg: content is PNG")],
    "exif_rotated": [FaultCase("by EXIF", ALL, data("train/a.jpg", exif_oriented(3)),
                               "train/a.jpg: its EXIF orientation is 3, so it is read upright")],
    "labels_as_stored": [FaultCase("by EXIF", COCO + VOC, data("train/a.jpg", exif_oriented(6)),
                                   "train/a.jpg: its labels state 500x370, as it is stored; its EXIF orientation is 6")],
    "orphan": [FaultCase("in no list", COCO, data("train/e.jpg", b"e"), "train/e.jpg: no annotation file lists it")],
    "duplicate_content": [FaultCase("twice", ALL, duplicated("train", "e.jpg"),
                                    "train: 'train/e.jpg' is the same bytes as 'train/a.jpg'")],
    "train_val_leak": [FaultCase("train in val", ALL, duplicated("validation", "x.jpg"),
                                 "val: 'validation/x.jpg' is the same bytes as 'train/a.jpg' of train")],
    "duplicate_image_id": [
        FaultCase("of two images", COCO, record("images", 3, id=1), "train/d.jpg: its id 1 is also that of 'train/a.jpg'"),
        FaultCase("two suffixes", TABLE, all_of(copied("train/d.jpg", "train/a.jpeg"), data("train/a.jpeg", encoded("JPEG"))),
                  "train/a.jpg: its id 1 is also that of 'train/a.jpeg'"),
    ],
    "duplicate_file_name": [FaultCase("listed twice", COCO, appended("images", id=9),
                                      "train/a.jpg: listed twice, with ids 1 and 9")],
    "broken_labels": [
        FaultCase("billion laughs", VOC, replaced("{labels}", "<annotation>", LAUGHS),
                  "{labels}: line 1, column 13: has a document type"),
        FaultCase("external entity", VOC,
                  data("{labels}", b'<!DOCTYPE a [<!ENTITY x SYSTEM "b">]><annotation>&x;</annotation>'),
                  "{labels}: line 1, column 13: has a document type"),
        FaultCase("document type", VOC, replaced("{labels}", "<annotation>", '<!DOCTYPE a SYSTEM "a.dtd"><annotation>'),
                  "{labels}: line 1, column 27: has a document type"),
        FaultCase("XML cut short", VOC, data("{labels}", half), "{labels}: line 1, column "),
        FaultCase("another XML", VOC, data("{labels}", b"<svg/>"), "{labels}: its root is <svg>"),
        FaultCase("deep XML", VOC, data("{labels}", b"<a>" * 100_000), "{labels}: line 1, column 300001: not XML"),
        FaultCase("zero byte", VOC, replaced("{labels}", "cat", "c\0t"), "{labels}: line 1, column "),
        FaultCase("foreign bytes", VOC, replaced("{labels}", "cat", b"c\xe4t"), "{labels}: line 1, column "),
        FaultCase("unknown encoding", VOC, data("{labels}", b"<?xml version='1.0' encoding='klingon'?><annotation/>"),
                  "{labels}: line 1, column "),
        FaultCase("no box", VOC, data("{labels}", lambda old: old.replace(b"bndbox", b"polygon")),
                  "{labels}: object 1 'cat' has no bndbox (it has name, difficult, polygon)"),
        FaultCase("no number", VOC, replaced("{labels}", "<xmin>40", "<xmin>4O"),
                  "{labels}: object 1 'cat': bndbox/xmin is '4O'"),
        FaultCase("line cut short", YOLO, data("{labels}", lambda old: old[:-30]), "{labels}: line 2 has "),
        FaultCase("foreign bytes", YOLO, data("{labels}", lambda old: old + b"\xe4"), "{labels}: line 3 has the byte 0xe4"),
        FaultCase("zero byte", YOLO, data("{labels}", lambda old: old + b"\0"), "{labels}: line 3 has a zero byte"),
        FaultCase("decimal comma", YOLO, replaced("{labels}", ".", ","), "{labels}: line 1 has '0,"),
        FaultCase("predictions", YOLO, replaced("{labels}", "\n", " 0.9\n"), "{labels}: line 1 has 6 values"),
        FaultCase("file deleted", VOC + YOLO, deleted("{labels}"), "{labels}: cannot be read: No such file", late=True),
    ],
    # boxes; the first one is [39, 222, 445, 148] in an image of 500x370
    "unknown_image": [FaultCase("id", COCO, record("annotations", 0, image_id=99),
                                "train: annotation 1 of image 99: no image has the id 99")],
    "unknown_category": [
        FaultCase("id", COCO, record("annotations", 0, category_id=99), "train: {box}: no named category has the id 99"),
        FaultCase("name", VOC, all_of(data("labels.txt", b"cat\ndog\nperson\nteddy bear"), replaced("{labels}", "cat", "Cat")),
                  "train: {box}: its class 'Cat' is not among cat, dog, person, teddy bear; did you mean 'cat'?"),
        FaultCase("number", YOLO, replaced("{labels}", "0 ", "99 "), "train: {box}: no named category has the id 99"),
        FaultCase("negative number", YOLO, replaced("{labels}", "0 ", "-1 "), "train: {box}: its class is not among cat, dog"),
        FaultCase("id", TABLE, replaced("{labels}", "/m/0", "/m/99"), "train: {box}: its class is not among dog, person"),
    ],
    "duplicate_box_id": [FaultCase("id", COCO, record("annotations", 1, id=1),
                                   "train: {box}: another annotation before it has the same id")],
    "no_box": [
        FaultCase("three numbers", COCO, coco_document(lambda content: content["annotations"][0]["bbox"].pop()),
                  "train: {box}: its bbox is not a list of four numbers"),
        FaultCase("none", COCO, coco_document(lambda content: content["annotations"][0].pop("bbox")),
                  "train: {box}: its bbox is not a list of four numbers"),
    ],
    "non_finite": [
        FaultCase("NaN", ALL, box(x=math.nan), "train: {box}: bbox [nan, 222.0, "),
        FaultCase("infinity", ALL, box(height=math.inf), "train: {box}: bbox [39.0, "),
        FaultCase("endless whole number", COCO, box(x=10**400), "train: {box}: bbox [inf, 222.0, "),
        FaultCase("longer than Python reads", COCO, replaced("{labels}", "[39", "[" + 5000 * "9"), "train: {box}: bbox [inf"),
    ],
    "inverted": [
        FaultCase("left and right swapped", ALL, box(width=-20), "train: {box}: width -20.0"),
        FaultCase("upside down", ALL, box(height=-20), "train: {box}: height -20.0"),
    ],
    "zero_size": [
        FaultCase("no width", ALL, box(width=0), "train: {box}: width 0.0"),
        FaultCase("no height", ALL, box(height=0), "train: {box}: height 0.0"),
    ],
    "outside": [
        FaultCase("far right", ALL, box(x=5000), "train: {box}: bbox [5000.0, 222.0, 445.0, 148.0] in an image of 500x370"),
        FaultCase("above", COCO + YOLO + TABLE, box(y=-150), "train: {box}: bbox [39.0, -150.0, 445.0, 148.0] in an image"),
        FaultCase("above", VOC, box(y=-150),
                  "train: {box}: bbox [40.0, -149.0, 444.0, 147.0] in an image"),  # so it counts from 0
        FaultCase("huge whole number", COCO + VOC + YOLO, box(x=10**30), "train: {box}: bbox [1e+30, 222.0, "),
    ],
    "partly_outside": [
        FaultCase("right", ALL, box(width=900), "train: {box}: bbox [39.0, 222.0, 900.0, 148.0] in an image of 500x370"),
        FaultCase("huge whole number", ALL, box(width=10**30), "222.0, 1e+30, 148.0] in an image of 500x370"),
    ],
    "duplicate_box": [
        FaultCase("line twice", YOLO, data("{labels}", lambda old: old + old.splitlines(keepends=True)[0]),
                  "train: 'train/a.txt': line 3: bbox [39.0, 222.0, 445.0, 148.0] of this class is there already"),
        FaultCase("annotation twice", COCO, appended("annotations", id=77), "of this class is there already"),
        FaultCase("object twice", VOC, data("{labels}", lambda old: old.replace(b"</annotation>", old[
            old.index(b"<object>"):old.index(b"</object>")] + b"</object></annotation>")), "of this class is there already"),
    ],
    # files
    "implausible_boxes": [FaultCase("fractions", COCO, as_fractions("train"),
                                    "train: the boxes of {labels} look like fractions of the image, 0 to 1; coco has pixels.")],
    "inexact_numbers": [
        FaultCase("text", COCO, record("images", 0, id="1"),
                  "{labels}: 1 numbers are written as text or with a fraction of 0, the first is images[0].id: '1'"),
        FaultCase("a fraction of 0", COCO, record("annotations", 0, image_id=1.0), "the first is annotations[0].image_id: 1.0"),
        FaultCase("0 as text", COCO, record("annotations", 0, iscrowd="0"), "the first is annotations[0].iscrowd: '0'"),
    ],
    "odd_crowd": [FaultCase("two", COCO, record("annotations", 0, iscrowd=2),
                            "1 annotations have an iscrowd that is neither 0 nor 1; the first is annotation ")],
    "renumbered_boxes": [FaultCase("of two images", COCO, coco_document(
        lambda content: content["annotations"][-1].update(id=1)),
        "{labels}: 1 of 6 annotations have the id of one of another")],
    "sizes_of_images": [FaultCase("no size", COCO, coco_document(
        lambda content: [content["images"][1].pop(key) for key in ("width", "height")]),
        "{labels}: images without width and height: 1")],
    # categories
    "duplicate_category_id": [FaultCase("two names", COCO, appended("categories", name="cow"),
                                        "train: category id 1 is both 'cat' and 'cow'")],
    "duplicate_category_name": [FaultCase("two ids", COCO, appended("categories", id=9),
                                          "train: categories 1 and 9 are both 'cat'")],
    "empty_category_name": [FaultCase("a space", COCO, appended("categories", id=9, name=" "),
                                      "train: category 9 has no name")],
    "similar_category_names": [FaultCase("capitals", COCO, appended("categories", id=9, name="Cat"),
                                         "classes 'cat' and 'Cat' differ only in capitals")],
    "untrained_category": [FaultCase("val alone", ALL, renamed_boxes("train", "teddy bear", "dog"),
                                     "'teddy bear' has boxes in val and none in train")],
}

REFUSED = [  # faults of a whole file; the message starts with the file's name
    FaultCase("JSON cut short", COCO, data("{labels}", half),
              "{labels}: not an annotation file in COCO format: not JSON at line"),
    FaultCase("empty", COCO, data("{labels}", b""), "{labels}: not an annotation file in COCO format: not JSON at line 1"),
    FaultCase("deep JSON", COCO, replaced("{labels}", "{", f'{{"x": {"[" * 100_000}{"]" * 100_000}, '), "{labels}: "),
    FaultCase("captions", COCO,
              coco_document(lambda content: content.update(annotations=[{"id": 1, "image_id": 1, "caption": "A"}])),
              "{labels}: Object missing required field"),
    FaultCase("results", COCO, data("{labels}", b'[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]'),
              "{labels}: not an annotation file in COCO format"),
    FaultCase("foreign bytes", COCO, replaced("{labels}", '"cat"', b'"c\xe4t"'), "{labels}: byte "),
    FaultCase("foreign bytes in a name", COCO, replaced("{labels}", '"a.jpg"', b'"\xe4.jpg"'),
              "{labels}: not an annotation file"),
    FaultCase("zero byte", COCO, data("{labels}", lambda old: old + b"\0"), "{labels}: not an annotation file"),
    FaultCase("huge id", COCO, record("annotations", 0, id=10**30), "{labels}: Expected `int`"),
    FaultCase("no categories", COCO, coco_document(lambda content: content.pop("categories")),
              "{labels}: Object missing required field `categories`"),
    FaultCase("table cut short", TABLE, data("{labels}", lambda old: old[:-60]), "{labels}: line 7 has "),
    FaultCase("no column", TABLE, replaced("{labels}", "XMax", "Xmax"), "{labels}: line 1 names no column XMax"),
    FaultCase("empty", TABLE, data("{labels}", b""), "{labels}: line 1 names no column ImageID"),
    FaultCase("UTF-16", TABLE, data("{labels}", utf_16), "{labels}: line 1 names no column ImageID"),
    FaultCase("no number", TABLE, replaced("{labels}", ",0.", ",O."), "{labels}: line 2 has XMin 'O."),
    FaultCase("annotations deleted", COCO + TABLE, deleted("{labels}"), "{labels}: cannot be read: No such file", late=True),
    FaultCase("no name", TABLE, replaced(CSV_NAMES, "/m/1,dog", "/m/1"), f"{CSV_NAMES}: line 2 is '/m/1'"),
    FaultCase("id of two names", TABLE, replaced(CSV_NAMES, "/m/1", "/m/0"), f"{CSV_NAMES}: line 2 calls '/m/0' 'dog', a line"),
    FaultCase("foreign bytes in names", TABLE, replaced(CSV_NAMES, "cat", b"c\xe4t"), f"{CSV_NAMES}: byte 6 is not UTF-8"),
    FaultCase("no YAML", YOLO, data("data.yaml", b"names: [cat\n"), "data.yaml: not YAML: "),
    FaultCase("code in YAML", YOLO, data("data.yaml", b"names: !!python/object/apply:os._exit [9]"), "data.yaml: not YAML: "),
    FaultCase("YAML bomb", YOLO, data("data.yaml", b"a: &a [x]\nb: &b [*a, *a]\nnames: [*b, *b]\n"),
              "data.yaml: names: the name of class 0 is of type list"),
    FaultCase("names with a hole", YOLO, data("data.yaml", b"names: {0: a, 2: b}"), "data.yaml: names has the keys 0, 2; they"),
    FaultCase("name twice", YOLO, replaced("data.yaml", '"dog"', '"cat"'), "data.yaml: names: classes 0 and 1 are both called"),
    FaultCase("wrong count", YOLO, replaced("data.yaml", "{", '{"nc": 3, '), "data.yaml: nc is 3, but there are 4 names"),
    FaultCase("no such folder", YOLO, replaced("data.yaml", '"validation"', '"vali"'), "data.yaml: val is 'vali', which is no"),
    FaultCase("name twice", VOC, data("labels.txt", b"cat\ncat\n"), "labels.txt: classes 0 and 1 are both called 'cat'"),
    FaultCase("foreign bytes in names", VOC, data("labels.txt", b"c\xe4t\n"), "labels.txt: byte 1 is not UTF-8"),
]

SOUND = [  # unusual but valid; read as it was meant
    FaultCase("byte order mark", ALL, data("{labels}", with_byte_order_mark)),
    FaultCase("lines of Windows", ALL, data("{labels}", with_windows_lines)),
    FaultCase("lines of an old Mac", ALL, data("{labels}", with_mac_lines)),
    FaultCase("empty lines at the end", ALL, data("{labels}", lambda old: old + b"\n\n")),
    FaultCase("upright by EXIF", ALL, data("train/a.jpg", exif_oriented(1))),
    FaultCase("UTF-16", VOC, data("{labels}", in_encoding("utf-16"))),
    FaultCase("UTF-16", COCO + YOLO, data("{labels}", utf_16)),
    FaultCase("Latin-1", VOC, data("{labels}", in_encoding("latin-1"))),
    FaultCase("no text where no objects are", YOLO, deleted("train/d.txt")),
    FaultCase("byte order mark in names", YOLO, data("data.yaml", with_byte_order_mark)),
    FaultCase("UTF-16 names", YOLO, data("data.yaml", utf_16)),
    FaultCase("byte order mark in names", TABLE, data(CSV_NAMES, with_byte_order_mark)),
    FaultCase("UTF-16 names", TABLE, data(CSV_NAMES, utf_16)),
    FaultCase("names on lines of an old Mac", TABLE, data(CSV_NAMES, with_mac_lines)),
    FaultCase("rows of other images", TABLE, data("{labels}", lambda old: old + old.splitlines()[1].replace(b"a", b"z", 1))),
]
