import json
import zipfile
from pathlib import Path

import pytest

from ssd_lib.errors import InputError
from ssd_lib.evaluate.submission import submission_name, write_submission

RESULTS = [{"image_id": 139, "category_id": 90, "bbox": [1.5, 2, 3, 4], "score": 0.5}]


@pytest.mark.parametrize(("annotations", "split"), [
    ("instances_val2017.json", "val2017"), ("image_info_test2017.json", "test2017"),
    ("image_info_test-dev2017.json", "test-dev2017"), ("val.json", "val")])
def test_the_testset_is_that_of_the_annotation_file(annotations: str, split: str) -> None:
    assert submission_name(Path("a_b") / annotations, "mb2_ssd-0.5") == f"detections_{split}_mb2_ssd-0.5_results"


@pytest.mark.parametrize("name", ["", "a/b", "a b", "größer"])
def test_a_name_that_no_file_should_have_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"--name: .* are allowed"):
        submission_name(Path("instances_val2017.json"), name)


def test_the_zip_holds_one_file_of_its_own_name_and_no_folder(tmp_path: Path) -> None:
    path = write_submission(tmp_path, "detections_test-dev2017_ssd_results", RESULTS)
    assert path == tmp_path / "detections_test-dev2017_ssd_results.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["detections_test-dev2017_ssd_results.json"]
        assert json.loads(archive.read(archive.namelist()[0])) == RESULTS


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = (write_submission(tmp_path / folder, "x", RESULTS).read_bytes() for folder in ("a", "b"))
    assert one == other
    assert write_submission(tmp_path, "x", RESULTS * 2).read_bytes() != one
