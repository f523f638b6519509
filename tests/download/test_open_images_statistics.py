"""The dry run: what is counted, and that no image is downloaded."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.open_images_mirror import QUICK, TRAIN, mirror_files, params
from support.project import data_params
from support.servers import Fault, serve

from ssd_lib.download.open_images import Count, count_rows, statistics, table
from ssd_lib.download.open_images_rows import Row
from ssd_lib.errors import InputError


@pytest.fixture(scope="module")
def mirror(shared_data: Path) -> dict[str, bytes]:
    return mirror_files(shared_data)


def test_counts_that_can_be_checked_by_hand() -> None:
    rows = [Row("a", "/m/1", False, False), Row("a", "/m/1", True, False), Row("b", "/m/1", False, True),
            Row("b", "/m/2", True, True)]
    assert count_rows(rows) == {"/m/1": Count(images=2, boxes=3, crowds=1, depictions=1),
                                "/m/2": Count(images=1, boxes=1, crowds=1, depictions=1)}
    assert count_rows([]) == {}


@given(st.lists(st.builds(Row, st.sampled_from("abcd"), st.sampled_from(["/m/1", "/m/2"]), st.booleans(), st.booleans())))
def test_an_image_counts_once_wherever_its_rows_stand(rows: list[Row]) -> None:
    for label, count in count_rows(rows).items():
        own = [row for row in rows if row.label == label]
        assert count == Count(len({row.image for row in own}), len(own), sum(row.is_crowd for row in own),
                              sum(row.is_depiction for row in own))


def test_the_most_common_class_stands_first_and_an_absent_one_has_zeros() -> None:
    counts = {"/m/1": Count(2, 3, 1, 0), "/m/2": Count(12345, 1234567, 0, 9)}
    assert table("train", counts, {"/m/1": "Cat", "/m/2": "Person", "/m/3": "Yo-yo"}).splitlines() == [
        "train       images       boxes      crowds  depictions",
        "Person      12,345   1,234,567           0           9",
        "Cat              2           3           1           0",
        "Yo-yo            0           0           0           0",
    ]


def test_chosen_classes_are_counted_with_what_the_limits_would_take(mirror: dict[str, bytes], raw: Path) -> None:
    with serve(mirror) as server:
        text = statistics(params(server.url, max_images=5), QUICK)
        assert not any(path.endswith(".jpg") for path, _ in server.gets)
    train, val = text.split("\n\n")
    assert train.splitlines()[1].split() == ["Person", "8", "45", "1", "0"]
    assert train.splitlines()[2].split() == ["Dog", "0", "0", "0", "0"]
    assert train.splitlines()[3] == "train: 5 of 8 images would be downloaded, about 2 MB"
    assert val.splitlines()[-1] == "validation: 4 of 4 images would be downloaded, about 1 MB"


def test_without_classes_all_are_counted_and_nothing_is_kept(mirror: dict[str, bytes], raw: Path) -> None:
    with serve(mirror) as server:
        text = statistics(params(server.url, classes=[]), QUICK)
    assert [row.split() for row in text.split("\n\n")[0].splitlines()[1:4]] == [
        ["Person", "8", "45", "1", "0"], ["Chair", "3", "20", "0", "0"], ["Bottle", "2", "12", "0", "0"]]
    assert len(text.split("\n\n")[0].splitlines()) == 9
    assert [path.name for path in raw.rglob("*") if path.is_file()] == ["class-descriptions-boxable.csv"]


def test_a_count_that_breaks_off_goes_on_and_one_of_another_version_begins_anew(
    mirror: dict[str, bytes], raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssd_lib.download.connection.RECEIVE_BYTES", 512)
    older = mirror[TRAIN] + mirror[TRAIN].partition(b"\n")[2]
    with serve(mirror) as server:
        whole = statistics(params(server.url, classes=[]), QUICK)
        for fault in (Fault(cut_after=3000), Fault(body=older, cut_after=3000)):
            server.path_faults[TRAIN] = [fault]
            server.gets.clear()
            assert statistics(params(server.url, classes=[]), QUICK) == whole
            assert [start > 0 for name, start in server.gets if name == TRAIN] == [False, True]


def test_other_sources_have_no_dry_run() -> None:
    with pytest.raises(InputError, match=r"data\.source is demo; --stats-only counts the classes of open_images"):
        statistics(data_params(), QUICK)
