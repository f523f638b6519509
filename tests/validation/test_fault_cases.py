"""A zoo of faults, each planted alone into real photographs in each format: every one is found, once, by file and object, and
nothing else is reported; what looks odd but is sound raises no alarm; no byte of the input changes."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from support.corruptions import Plot, all_of, data, said
from support.fault_cases import ALL, FOUND, REFUSED, SOUND, Animal
from support.four_formats import Row, photo_rows, write_files
from support.project import data_params

from ssd_lib.annotations.faults import KINDS
from ssd_lib.download.local import local
from ssd_lib.errors import InputError
from ssd_lib.files import sha256
from ssd_lib.manifest import Manifest
from ssd_lib.params import RuntimeParams
from ssd_lib.validation.validate import validate

PHOTOS = {"train": {"a": 223747, "b": 343937, "c": 404484, "d": 521601}, "validation": {"v": 435205, "w": 555009}}
CLASSES = {"cat", "dog", "person", "teddy bear"}  # other objects are left out, so d and w have none
RUNTIME = RuntimeParams.model_construct(workers=0)
DATA = data_params(max_bad_fraction=1)

Photos = dict[str, list[Row]]
Report = dict[str, Any]


@pytest.fixture(scope="session")
def photos(mirror: Manifest) -> Photos:
    """Six real photographs under short names."""
    row_of = {int(Path(row["name"]).stem): row for row in photo_rows(mirror)}
    return {split: [{**row_of[number], "name": f"{name}.jpg",
                     "boxes": [box for box in row_of[number]["boxes"] if box[0] in CLASSES]}
                    for name, number in names.items()] for split, names in PHOTOS.items()}


@pytest.fixture(scope="session")
def sound(photos: Photos, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photographs in all formats, a folder each; not to be changed."""
    folder = tmp_path_factory.mktemp("zoo")
    for form in ALL:
        write_files(folder / form, form, photos)
    return folder


@pytest.fixture(scope="session")
def sound_reports(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """What is said of them, by format."""
    return {form: look(copied(sound / form, tmp_path_factory.mktemp(form), form, {}), Animal("", ALL, all_of()))
            for form in ALL}


def copied(folder: Path, tmp_path: Path, form: str, photos: Photos) -> Plot:
    """A copy of a data set, in a folder of its own."""
    shutil.copytree(folder, tmp_path / "set")
    return Plot(tmp_path / "set", form, photos)


def look(plot: Plot, animal: Animal) -> Report:
    """What validate says of the data set with the fault; that no byte of it changes meanwhile is asserted on the way."""
    if not animal.late:
        animal.plant(plot)
    before = hashes(plot.root)
    try:
        manifest = local(DATA.model_copy(update={"paths": [str(plot.root)]}), RUNTIME)
        if animal.late:
            assert hashes(plot.root) == before
            animal.plant(plot)
            before = hashes(plot.root)
        return validate(manifest, DATA, RUNTIME, plot.root.parent / "reports" / "validation.json")
    finally:
        assert hashes(plot.root) == before


def hashes(root: Path) -> dict[Path, str]:
    return {file: sha256(file) for file in root.rglob("*") if file.is_file()}


def cases(rows: Iterable[tuple[str, Animal]]) -> list[Any]:
    """Every row in each of its formats."""
    return [pytest.param(kind, animal, form, id=f"{form}: {kind}: {animal.name}")
            for kind, animal in rows for form in animal.forms]


def test_sound_photographs_raise_no_alarm_in_any_format(sound_reports: dict[str, Report]) -> None:
    for report in sound_reports.values():
        assert (report["faults"], report["bad_images"], report["bad_boxes"], report["warnings"]) == ([], 0, 0, 0)
        assert (report["images"], report["boxes"]) == (6, 8)


@pytest.mark.parametrize(("kind", "animal", "form"), cases((kind, row) for kind, rows in FOUND.items() for row in rows))
def test_a_fault_is_found_once_by_file_and_object_and_nothing_else_is_reported(
        sound: Path, photos: Photos, tmp_path: Path, kind: str, animal: Animal, form: str) -> None:
    plot = copied(sound / form, tmp_path, form, photos)
    report = look(plot, animal)
    assert [(fault["kind"], fault["count"]) for fault in report["faults"]] == [(kind, 1)]
    assert said(animal.text, plot) in report["faults"][0]["first"][0]
    assert (report["bad_images"], report["bad_boxes"], report["warnings"]) == tuple(
        int(counts) for counts in (KINDS[kind].is_bad and KINDS[kind].of == "images",
                                   KINDS[kind].is_bad and KINDS[kind].of == "boxes", not KINDS[kind].is_bad))


@pytest.mark.parametrize(("kind", "animal", "form"), cases(("refused", row) for row in REFUSED))
def test_what_spoils_a_whole_file_is_refused_by_name(
        sound: Path, photos: Photos, tmp_path: Path, kind: str, animal: Animal, form: str) -> None:
    plot = copied(sound / form, tmp_path, form, photos)
    with pytest.raises(InputError) as caught:
        look(plot, animal)
    assert str(caught.value).startswith(f"{plot.root.resolve() / said(animal.text, plot)}")


@pytest.mark.parametrize(("kind", "animal", "form"), cases(("sound", row) for row in SOUND))
def test_what_is_odd_but_sound_is_read_as_it_was_meant(
        sound: Path, photos: Photos, sound_reports: dict[str, Report], tmp_path: Path, kind: str, animal: Animal,
        form: str) -> None:
    assert look(copied(sound / form, tmp_path, form, photos), animal) == sound_reports[form]


def test_the_zoo_has_every_kind_of_fault() -> None:
    assert set(FOUND) == set(KINDS)


def test_what_an_external_entity_points_to_is_read_by_nobody(sound: Path, photos: Photos, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("swordfish")
    attack = f'<!DOCTYPE a [<!ENTITY x SYSTEM "{(tmp_path / "secret.txt").as_uri()}">]><annotation><object><name>&x;</name>'
    look(copied(sound / "voc", tmp_path, "voc", photos), Animal("", ALL, data("{labels}", attack.encode())))
    reports = list((tmp_path / "reports").iterdir())
    assert len(reports) == 3
    assert not any(b"swordfish" in report.read_bytes() for report in reports)
