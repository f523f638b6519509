"""Claims about what may be gone on from."""

from pathlib import Path

import pytest

from ssd_lib.download.part_file import Partial, begin_partial, forget_partial, part_path, read_partial


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "a.zip"


def test_bytes_with_a_note_are_gone_on_from(target: Path) -> None:
    begin_partial(target, '"v1"', 10)
    part_path(target).write_bytes(b"12345")
    assert read_partial(target) == Partial(5, '"v1"', 10)


@pytest.mark.parametrize(("version", "total_bytes"), [("", 10), ('"v1"', None), ('"v1"', 4)])
def test_bytes_of_an_unknown_version_or_size_are_not(target: Path, version: str, total_bytes: int | None) -> None:
    begin_partial(target, version, total_bytes)
    part_path(target).write_bytes(b"12345")
    assert read_partial(target) == Partial()


@pytest.mark.parametrize("note", ["", "{}", "[]", "null", '{"version": "v1"}'])
def test_a_damaged_note_is_no_note(target: Path, note: str) -> None:
    part_path(target).write_bytes(b"12345")
    target.with_name("a.zip.part.json").write_text(note)
    assert read_partial(target) == Partial()


def test_a_new_version_drops_the_bytes_of_the_old_one(target: Path) -> None:
    begin_partial(target, '"v1"', 10)
    part_path(target).write_bytes(b"12345")
    begin_partial(target, '"v2"', 10)
    assert read_partial(target) == Partial(0, '"v2"', 10)


def test_nothing_is_left_of_a_forgotten_part(target: Path) -> None:
    begin_partial(target, '"v1"', 10)
    forget_partial(target)
    assert list(target.parent.iterdir()) == []


def test_a_file_of_unknown_size_is_never_complete() -> None:
    assert Partial(10, "v", 10).is_complete
    assert not Partial(9, "v", 10).is_complete
    assert not Partial(0, "", None).is_complete
