"""The rows of Open Images: which are kept, which images are chosen, what is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd_lib.download.open_images_rows import (
    HEADER,
    Row,
    choose_classes,
    choose_images,
    copy_rows,
    keep_labels,
    parse_rows,
    read_class_names,
    read_rows,
)
from ssd_lib.errors import InputError

NAMES = {"/m/01g317": "Person", "/m/0bt9lr": "Dog", "/m/01yrx": "Cat", "/m/09ct_": "Helicopter"}


def line(image: str, label: str, crowd: int = 0, depiction: int = 0, more: str = "") -> bytes:
    return f"{image},xclick,{label},1,0.1,0.2,0.3,0.4,0,0,{crowd},{depiction},0{more}\n".encode()


FILE = HEADER + b"\n" + line("a1", "/m/1") + line("a1", "/m/2", crowd=1) + line("b2", "/m/1", depiction=1)


def test_header_and_rows_of_the_labels_are_kept_byte_for_byte() -> None:
    assert keep_labels(["/m/1"], "URL")(FILE, 0) == HEADER + b"\n" + line("a1", "/m/1") + line("b2", "/m/1", depiction=1)
    assert keep_labels(["/m/2"], "URL")(line("b2", "/m/1") + line("c3", "/m/2"), 1000) == line("c3", "/m/2")
    assert keep_labels([], "URL")(FILE, 0) == HEADER + b"\n"


def test_a_label_is_not_a_part_of_another_one() -> None:
    assert keep_labels(["/m/1"], "URL")(line("a1", "/m/11") + line("/m/1", "/m/2"), 1000) == b""


def test_later_columns_and_windows_line_ends_stay() -> None:
    text = HEADER + b",XClick1X\r\n" + line("a1", "/m/1", more=",0.5\r")
    assert keep_labels(["/m/1"], "URL")(text, 0) == text


def test_a_last_line_without_its_end_gets_one() -> None:
    assert keep_labels(["/m/1"], "URL")(line("a1", "/m/1").rstrip(), 1000) == line("a1", "/m/1")


@pytest.mark.parametrize("text", [b"<html>log in</html>\n", b"\xef\xbb\xbf" + FILE, b"\x1f\x8b\x08\x00" * 40 + b"\n"])
def test_what_does_not_begin_like_annotations_is_refused(text: bytes) -> None:
    with pytest.raises(InputError, match=r"URL: the file begins with b'.*ImageID,Source,LabelName.*\. is expected\. Check"):
        keep_labels(["/m/1"], "URL")(text, 0)


@pytest.mark.parametrize("text", [line("a1", "/m/1") + line("a1", "/m/1")[:-20], b"<html>\n", b"\x00\n"])
def test_a_row_that_is_cut_short_is_refused(text: bytes) -> None:
    with pytest.raises(InputError, match=r"URL: a row after byte 1000 is b'.*; 13 columns are needed\. The file is damaged"):
        keep_labels(["/m/1"], "URL")(text, 1000)


def test_rows_say_what_matters_of_an_object() -> None:
    assert list(parse_rows(FILE, 0, "URL")) == [Row("a1", "/m/1", False, False), Row("a1", "/m/2", True, False),
                                         Row("b2", "/m/1", False, True)]


@pytest.mark.parametrize("image", ["../../etc/passwd", "a/b", "", "C:x", "a b", "a\\b"])
def test_an_image_that_would_leave_its_folder_is_refused(image: str) -> None:
    with pytest.raises(InputError, match=r"URL: b'.*' is not the id of an image; letters"):
        list(parse_rows(line(image, "/m/1"), 1000, "URL"))


def test_a_file_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssd_lib.download.open_images_rows.READ_BYTES", 50)
    (tmp_path / "rows.csv").write_bytes(FILE)
    assert list(read_rows(tmp_path / "rows.csv")) == list(parse_rows(FILE, 0, "URL"))


def test_class_names_may_have_commas(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text('/m/1,Person\n/m/2,"Bow, and arrow"\n', encoding="utf-8-sig")
    assert read_class_names(tmp_path / "classes.csv") == {"/m/1": "Person", "/m/2": "Bow, and arrow"}


@pytest.mark.parametrize("text", [b"<html>\n", b"/m/1,Person\n/m/2\n", b"/m/1,\n", b"\xff\xfe", b"/m/1,a,b\n"])
def test_what_is_no_class_file_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "classes.csv").write_bytes(text)
    with pytest.raises(InputError, match=r"classes\.csv: .*Check data\.base_url"):
        read_class_names(tmp_path / "classes.csv")


def test_classes_come_in_the_order_in_which_they_are_named_each_once() -> None:
    assert list(choose_classes(NAMES, ["Cat", "Person", "Cat"]).items()) == [("/m/01yrx", "Cat"), ("/m/01g317", "Person")]
    assert choose_classes(NAMES, []) == {}


@pytest.mark.parametrize(("name", "near"), [("person", "; did you mean 'Person'?"), ("Dogs", "; did you mean 'Dog'?"),
                                            ("helicoptre", "; did you mean 'Helicopter'?"), ("Xylophone", ".")])
def test_an_unknown_class_names_the_nearest_and_where_all_are_listed(name: str, near: str) -> None:
    with pytest.raises(InputError) as caught:
        choose_classes(NAMES, ["Cat", name])
    assert str(caught.value) == (
        f"params.yaml: data.classes names '{name}', which is not among the 4 classes of Open Images{near} Names are exact; "
        "`python -m stages.download --stats-only` with data.classes: [] lists them.")


ROWS = st.lists(st.builds(Row, st.sampled_from([f"{n:x}" for n in range(12)]), st.sampled_from(["/m/1", "/m/2", "/m/3"]),
                          st.just(False), st.just(False)), max_size=40)


@given(ROWS, st.integers(0, 12))
def test_a_number_of_images_takes_the_first_of_all(rows: list[Row], limit: int) -> None:
    everything = choose_images(rows, 0, 0)
    assert set(everything) == {row.image for row in rows}
    assert choose_images(rows, limit, 0) == (everything[:limit] if limit else everything)


@given(ROWS, st.randoms())
def test_the_order_of_the_rows_does_not_matter(rows: list[Row], random: object) -> None:
    shuffled = sorted(rows, key=lambda row: random.random())  # type: ignore[attr-defined]
    assert choose_images(shuffled, 5, 4) == choose_images(rows, 5, 4)


@given(ROWS, st.integers(1, 6))
def test_a_number_of_boxes_takes_each_image_that_a_class_still_needs_and_no_other(rows: list[Row], limit: int) -> None:
    taken = choose_images(rows, 0, limit)
    boxes = dict.fromkeys(("/m/1", "/m/2", "/m/3"), 0)
    for image in choose_images(rows, 0, 0):
        labels = [row.label for row in rows if row.image == image]
        assert (image in taken) == any(boxes[label] < limit for label in labels)
        if image in taken:
            for label in labels:
                boxes[label] += 1


@given(ROWS, st.integers(1, 6))
def test_more_boxes_take_the_same_images_and_more(rows: list[Row], limit: int) -> None:
    assert set(choose_images(rows, 0, limit)) <= set(choose_images(rows, 0, limit + 1))


def test_the_choice_is_the_same_tomorrow() -> None:
    rows = [Row(f"{number:016x}", "/m/1", False, False) for number in range(100)]
    assert choose_images(rows, 3, 0) == ["000000000000001e", "0000000000000060", "000000000000005e"]  # as sha1sum and sort say


def test_rows_of_some_images_are_copied_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(FILE)
    copy_rows(tmp_path / "rows.csv", tmp_path / "sub.csv", ["b2"])
    assert (tmp_path / "sub.csv").read_bytes() == HEADER + b"\n" + line("b2", "/m/1", depiction=1)
