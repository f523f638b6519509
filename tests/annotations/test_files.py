"""Numbers, label files and folders: what all tools read is read, what cannot be a label file is named, no walk is endless."""

import math
import os
from itertools import pairwise
from pathlib import Path

import pytest

from ssd_lib.annotations.files import (
    MAX_LABEL_BYTES,
    MAX_PATHS,
    check_class_names,
    list_files,
    parse_number,
    read_label_file,
    read_text,
)
from ssd_lib.errors import InputError
from ssd_lib.manifest import MAX_CLASSES


@pytest.mark.parametrize(("text", "number"), [("3", 3), (" 0.5\n", 0.5), ("-1e-3", -0.001), ("+2.", 2), ("1e400", math.inf)])
def test_a_number_is_read_as_all_tools_read_it(text: str, number: float) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize("text", ["", " ", "1_000", "١", "0x10", "1,5", "one", "1 2", "\0"])
def test_what_only_few_tools_read_as_a_number_is_no_number(text: str) -> None:
    assert parse_number(text) is None


def test_a_label_file_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(MAX_LABEL_BYTES + 1)
    for name, error in (("huge.txt", "more than 64 MiB"), ("absent.txt", "cannot be read: No such file"),
                        (".", "cannot be read: "), ("a\0.txt", "cannot be read: embedded null byte")):
        with pytest.raises(InputError) as caught:
            read_label_file(tmp_path, name)
        assert str(caught.value).startswith(f"{name}: {error}")


needs_links = pytest.mark.skipif(os.name != "posix", reason="Windows lets few users make links")


def link(root: Path, name: str, target: str) -> None:
    (root / name).symlink_to(root / target, target_is_directory=True)


@needs_links
@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["each level twice", "each in each", "many for one"])
def test_links_that_make_endlessly_many_paths_are_refused(tmp_path: Path, kind: str) -> None:
    folders = [f"f{number:02}" for number in range(40)]
    for name in folders:
        (tmp_path / name).mkdir()
    if kind == "each level twice":  # 2^40 paths
        for name, below in pairwise(folders):
            link(tmp_path, f"{name}/a", below)
            link(tmp_path, f"{name}/b", below)
    elif kind == "each in each":
        for name in folders:
            for other in folders:
                link(tmp_path, f"{name}/to {other}", other)
    else:
        for number in range(1000):
            link(tmp_path, f"link {number}", "f00")
    with pytest.raises(InputError, match=rf"links show one folder on more than {MAX_PATHS} paths, such as '.*Remove links"):
        list_files(tmp_path)


@needs_links
def test_a_folder_at_several_places_has_its_files_at_each(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/a.jpg").touch()
    links = [f"link {number}" for number in range(MAX_PATHS - 1)]
    for name in links:
        link(tmp_path, name, "disk")
    (tmp_path / "disk/around").symlink_to(tmp_path, target_is_directory=True)
    assert list_files(tmp_path) == {f"{folder}/a.jpg" for folder in ["disk", *links]}


@needs_links
@pytest.mark.timeout(20)
def test_pipes_and_devices_are_no_files_of_a_dataset(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    (tmp_path / "b.txt").symlink_to("/dev/zero")
    assert list_files(tmp_path) == set()
    for name in ("a.txt", "b.txt"):
        with pytest.raises(InputError, match=f"{name}: cannot be read: it is a pipe, a socket or a device"):
            read_label_file(tmp_path, name)
        with pytest.raises(InputError, match=f"{name}: cannot be read: it is a pipe, a socket or a device"):
            read_text(tmp_path / name)


def test_a_million_names_of_classes_are_refused() -> None:
    names = [f"class {number}" for number in range(1_000_000)]
    assert len(check_class_names("data.yaml", names[:MAX_CLASSES])) == MAX_CLASSES
    with pytest.raises(InputError, match=f"data.yaml: 1000000 class names; at most {MAX_CLASSES} are allowed"):
        check_class_names("data.yaml", names)
