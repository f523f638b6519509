"""Splits of datasets that have none: fair, stable and never empty."""

from hypothesis import given
from hypothesis import strategies as st

from ssd_lib.annotations.splits import is_val, matching, split_names, split_of

NAMES = st.sets(st.text(min_size=1), max_size=30)
FRACTIONS = st.floats(0.001, 0.999)


@given(NAMES, FRACTIONS)
def test_every_name_is_on_one_side_and_no_side_is_empty(names: set[str], fraction: float) -> None:
    train, val = split_names(names, fraction)
    assert sorted(train + val) == sorted(names)
    assert len(names) < 2 or (train and val)


@given(NAMES, FRACTIONS)
def test_the_order_of_the_names_does_not_matter(names: set[str], fraction: float) -> None:
    assert split_names(sorted(names), fraction) == split_names(sorted(names, reverse=True), fraction)


def test_new_images_do_not_move_old_ones() -> None:
    names = [f"{number}.jpg" for number in range(400)]
    for fraction in (0.1, 0.5):
        old, new = split_names(names[:200], fraction)[1], split_names(names, fraction)[1]
        assert set(old) == set(new) & set(names[:200])


def test_the_share_is_about_the_fraction() -> None:
    names = [f"{number:012d}.jpg" for number in range(10_000)]
    assert [round(sum(is_val(name, fraction) for name in names) / 10_000, 2) for fraction in (0.1, 0.5, 0.9)] == [0.1, 0.5, 0.9]


def test_a_larger_fraction_keeps_what_was_in_val() -> None:
    names = [f"{number}.jpg" for number in range(1000)]
    assert {name for name in names if is_val(name, 0.1)} < {name for name in names if is_val(name, 0.2)}


def test_the_split_is_the_same_on_every_machine_and_in_every_version() -> None:
    assert [name for name in "abcdefghijklmnopqrstuvwxyz" if is_val(name, 0.1)] == ["d", "j", "p", "s", "u"]


def test_a_word_of_a_split_stands_on_its_own() -> None:
    names = ["train2017", "train_v2", "trainval", "training", "Train", "val", "valid", "validation3", "valley"]
    assert matching(names, "train", ["{split}*"]) == ["Train", "train2017", "train_v2"]
    assert matching(names, "val", ["{split}*"]) == ["val", "valid", "validation3"]


def test_a_star_stays_within_a_part_of_a_name() -> None:
    assert matching(["images/train/deep", "images/train1"], "train", ["images/{split}*"]) == ["images/train1"]


def test_a_folder_is_of_the_split_that_it_or_one_around_it_is_called_after() -> None:
    found = [split_of(folder) for folder in ("train", "Valid/night", "a/test2017", "trains", "", "a/b")]
    assert found == ["train", "val", "test", "", "", ""]
