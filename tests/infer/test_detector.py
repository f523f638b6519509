from pathlib import Path

import numpy as np
import pytest
import torch

from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.errors import InputError, StateError
from ssd_lib.images import read_image
from ssd_lib.infer.detector import Detector
from ssd_lib.infer.evaluation import predict
from ssd_lib.params import EvalParams

PHOTO = Path("data/raw/tiny/val/0.png")


def test_paths_arrays_and_lists_give_the_same_objects(project: Path) -> None:
    detector = Detector(threshold=0.01, batch_size=2)
    from_path, from_array = detector(PHOTO), detector(read_image(PHOTO))
    in_list = detector([str(PHOTO), read_image(PHOTO.with_name("1.png")), PHOTO])
    assert len(from_path.boxes) > 0
    assert from_path.class_names[0] in ("dog", "kite")
    assert np.array_equal(from_path.boxes, from_array.boxes)
    assert np.allclose(in_list[0].boxes, in_list[2].boxes, atol=1e-3)
    assert detector([]) == []


def test_a_detector_finds_what_evaluation_measures(project: Path, dataset: DetectionDataset,
                                                   params: EvalParams) -> None:
    detector = Detector(threshold=params.score_threshold)
    measured = predict(detector.net, dataset, params, torch.device("cpu"), workers=0, progress=False)
    for i in range(len(dataset)):
        found = detector(Path(f"data/raw/tiny/val/{i}.png"))
        rows = measured.images == i
        assert found.scores == pytest.approx(measured.scores[rows], abs=1e-5)
        assert found.boxes[:, :2] == pytest.approx(measured.boxes[rows, :2], abs=1e-2)


def test_the_threshold_holds(project: Path) -> None:
    scores = Detector(threshold=0.01)(PHOTO).scores
    middle = float(np.median(scores))
    assert Detector(threshold=middle)(PHOTO).scores.min() >= middle


@pytest.mark.parametrize(("shape", "dtype"), [((4, 4), "uint8"), ((4, 4, 3), "float32"), ((0, 4, 3), "uint8")])
def test_an_array_that_is_no_picture_is_refused(project: Path, shape: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(InputError, match=r"a picture is .* of shape .*; it must be uint8"):
        Detector()(np.zeros(shape, dtype))


def test_a_missing_model_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="dvc repro train"):
        Detector(tmp_path / "none.pt")
