"""Every kind of fault, introduced alone into a dataset of real images: it is found once, by file and object, and nothing
else is reported; unusual but valid files have no faults; no byte of the input changes. By default every case runs in one
format; the slow tests run the others."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from support.corruptions import DatasetCopy, all_of, data, fill_in
from support.fault_cases import ALL, FOUND, REFUSED, SOUND, FaultCase
from support.four_formats import Row, image_rows_of_val, write_files
from support.project import data_params

from ssd_lib.annotations.faults import KINDS
from ssd_lib.download.local import local
from ssd_lib.errors import InputError
from ssd_lib.files import sha256
from ssd_lib.manifest import Manifest
from ssd_lib.params import RuntimeParams
from ssd_lib.validation.validate import validate

IMAGES = {"train": {"a": 223747, "b": 343937, "c": 404484, "d": 521601}, "validation": {"v": 435205, "w": 555009}}
CLASSES = {"cat", "dog", "person", "teddy bear"}  # other objects are left out, so d and w have none
RUNTIME = RuntimeParams.model_construct(workers=0)
DATA = data_params(max_bad_fraction=1)

Images = dict[str, list[Row]]
Report = dict[str, Any]


@pytest.fixture(scope="session")
def images(mirror: Manifest) -> Images:
    """Return six real images under short names."""
    row_of = {int(Path(row["name"]).stem): row for row in image_rows_of_val(mirror)}
    return {split: [{**row_of[number], "name": f"{name}.jpg",
                     "boxes": [box for box in row_of[number]["boxes"] if box[0] in CLASSES]}
                    for name, number in names.items()] for split, names in IMAGES.items()}


@pytest.fixture(scope="session")
def sound(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the dataset in all formats, a folder each; not to be changed."""
    folder = tmp_path_factory.mktemp("sound")
    for form in ALL:
        write_files(folder / form, form, images)
    return folder


@pytest.fixture(scope="session")
def sound_reports(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """Return the reports on the sound datasets, by format."""
    return {form: report_on(copied(sound / form, tmp_path_factory.mktemp(form), form, {}), FaultCase("", ALL, all_of()))
            for form in ALL}


def copied(folder: Path, tmp_path: Path, form: str, images: Images) -> DatasetCopy:
    """Copy a dataset to a folder of its own."""
    shutil.copytree(folder, tmp_path / "set")
    return DatasetCopy(tmp_path / "set", form, images)


def report_on(dataset: DatasetCopy, case: FaultCase) -> Report:
    """Return the report of validate on the corrupted dataset; assert that no byte of the dataset changes."""
    if not case.late:
        case.corrupt(dataset)
    before = hashes(dataset.root)
    try:
        manifest = local(DATA.model_copy(update={"paths": [str(dataset.root)]}), RUNTIME)
        if case.late:
            assert hashes(dataset.root) == before
            case.corrupt(dataset)
            before = hashes(dataset.root)
        return validate(manifest, DATA, RUNTIME, dataset.root.parent / "reports" / "validation.json")
    finally:
        assert hashes(dataset.root) == before


def hashes(root: Path) -> dict[Path, str]:
    return {file: sha256(file) for file in root.rglob("*") if file.is_file()}


def cases(rows: Iterable[tuple[str, FaultCase]]) -> list[Any]:
    """Return every row in each of its formats; all but one of them are slow. The formats take turns in being the quick one."""
    return [pytest.param(kind, case, form, id=f"{form}: {kind}: {case.name}",
                         marks=() if case.forms[number % len(case.forms)] == form else pytest.mark.slow)
            for number, (kind, case) in enumerate(rows) for form in case.forms]


def test_sound_images_have_no_faults_in_any_format(sound_reports: dict[str, Report]) -> None:
    for report in sound_reports.values():
        assert (report["faults"], report["bad_images"], report["bad_boxes"], report["warnings"]) == ([], 0, 0, 0)
        assert (report["images"], report["boxes"]) == (6, 8)


@pytest.mark.parametrize(("kind", "case", "form"), cases((kind, row) for kind, rows in FOUND.items() for row in rows))
def test_a_fault_is_found_once_by_file_and_object_and_nothing_else_is_reported(
        sound: Path, images: Images, tmp_path: Path, kind: str, case: FaultCase, form: str) -> None:
    dataset = copied(sound / form, tmp_path, form, images)
    report = report_on(dataset, case)
    assert [(fault["kind"], fault["count"]) for fault in report["faults"]] == [(kind, 1)]
    assert fill_in(case.text, dataset) in report["faults"][0]["first"][0]
    assert (report["bad_images"], report["bad_boxes"], report["warnings"]) == tuple(
        int(counts) for counts in (KINDS[kind].is_bad and KINDS[kind].of == "images",
                                   KINDS[kind].is_bad and KINDS[kind].of == "boxes", not KINDS[kind].is_bad))


@pytest.mark.parametrize(("kind", "case", "form"), cases(("refused", row) for row in REFUSED))
def test_a_fault_of_a_whole_file_is_refused_by_name(
        sound: Path, images: Images, tmp_path: Path, kind: str, case: FaultCase, form: str) -> None:
    dataset = copied(sound / form, tmp_path, form, images)
    with pytest.raises(InputError) as caught:
        report_on(dataset, case)
    assert str(caught.value).startswith(f"{dataset.root.resolve() / fill_in(case.text, dataset)}")


@pytest.mark.parametrize(("kind", "case", "form"), cases(("sound", row) for row in SOUND))
def test_unusual_but_valid_files_are_read_as_they_were_meant(
        sound: Path, images: Images, sound_reports: dict[str, Report], tmp_path: Path, kind: str, case: FaultCase,
        form: str) -> None:
    report = report_on(copied(sound / form, tmp_path, form, images), case)
    assert report | {"files": []} == sound_reports[form]  # a missing label file is counted there, and is no fault


def test_every_kind_of_fault_has_a_case() -> None:
    assert set(FOUND) == set(KINDS) - {"mixed_orientations", "low_contrast"}  # tested in test_exif.py and test_images.py


def test_the_target_of_an_external_entity_is_not_read(sound: Path, images: Images, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("swordfish")
    attack = f'<!DOCTYPE a [<!ENTITY x SYSTEM "{(tmp_path / "secret.txt").as_uri()}">]><annotation><object><name>&x;</name>'
    report_on(copied(sound / "voc", tmp_path, "voc", images), FaultCase("", ALL, data("{labels}", attack.encode())))
    reports = list((tmp_path / "reports").iterdir())
    assert len(reports) == 3
    assert not any(b"swordfish" in report.read_bytes() for report in reports)
