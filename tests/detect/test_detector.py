import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support.project import ROOT
from support.trained_project import SPEC

import ssd_lib
from ssd_lib.boxes.selection import Postprocess
from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.detect.detector import Detector
from ssd_lib.detect.video import open_video
from ssd_lib.errors import InputError, StateError
from ssd_lib.evaluate.coco_eval import predict
from ssd_lib.images import read_image
from ssd_lib.nets.model_file import MODEL_PATH, NetSpec, load_model, save_model

IMAGE = Path("data/raw/tiny/val/0.png")


def test_paths_arrays_and_lists_give_the_same_objects(project: Path) -> None:
    detector = Detector(threshold=0.01, batch_size=2)
    from_path, from_array = detector(IMAGE), detector(read_image(IMAGE))
    in_list = detector([str(IMAGE), read_image(IMAGE.with_name("1.png")), IMAGE])
    assert len(from_path.boxes) > 0
    assert from_path.names[0] in ("dog", "kite")
    assert np.array_equal(from_path.boxes, from_array.boxes)
    assert np.allclose(in_list[0].boxes, in_list[2].boxes, atol=1e-3)
    assert detector([]) == []


def test_a_detector_finds_what_evaluation_measures(project: Path, dataset: DetectionDataset) -> None:
    detector = Detector(threshold=0.01)
    measured = predict(load_model().net, dataset, Postprocess(), 2, torch.device("cpu"), workers=0, progress=False)
    for i in range(len(dataset)):
        found = detector(Path(f"data/raw/tiny/val/{i}.png"))
        rows = measured.images == i
        assert found.scores == pytest.approx(measured.scores[rows], abs=1e-5)
        assert found.boxes[:, :2] == pytest.approx(measured.boxes[rows, :2], abs=1e-2)


def test_objects_down_to_the_low_score_are_kept_without_changing_the_thresholds(project: Path) -> None:
    low = float(np.median(Detector(threshold=0.01)(IMAGE).scores))
    detector = Detector(threshold=0.999, low_score=low)
    assert np.array_equal(detector(IMAGE).scores, Detector(threshold=low)(IMAGE).scores)
    assert set(detector.thresholds.tolist()) == {np.float32(0.999)}


def test_the_threshold_holds(project: Path) -> None:
    scores = Detector(threshold=0.01)(IMAGE).scores
    middle = float(np.median(scores))
    assert Detector(threshold=middle)(IMAGE).scores.min() >= middle


def test_top_k_are_the_best(project: Path) -> None:
    many, few = Detector(threshold=0.01)(IMAGE), Detector(threshold=0.01, top_k=3)(IMAGE)
    assert len(many.scores) == 100
    assert np.array_equal(few.boxes, many.boxes[:3])


def test_a_high_top_k_is_not_cut_at_a_class_s_candidates(tmp_path: Path) -> None:
    spec = NetSpec("mb2-ssd-lite", 128, 0.1, ("dog",), (18,))
    save_model(tmp_path / "ssd.pt", spec, spec.build().state_dict(), {})
    detector = Detector(tmp_path / "ssd.pt", threshold=0.0, top_k=10_000, nms="soft")
    assert len(detector(np.zeros((128, 128, 3), np.uint8)).scores) > Postprocess().top_k_per_class


def test_a_detector_has_the_postprocess_values_of_its_model(project: Path, weights: dict[str, torch.Tensor]) -> None:
    save_model(Path("other.pt"), SPEC, weights, {}, Postprocess(score_threshold=0.02, nms_iou=0.7, max_detections=40))
    own, other = Detector(threshold=None), Detector("other.pt", threshold=None)
    assert (len(own(IMAGE).scores), len(other(IMAGE).scores)) == (100, 40)
    assert other(IMAGE).scores.tolist() != own(IMAGE).scores[:40].tolist(), "an nms_iou of 0.7 keeps what 0.45 drops"
    named = Detector("other.pt", threshold=0.01, top_k=100, nms_iou=0.45)(IMAGE)
    assert [column.tolist() for column in named[:3]] == [column.tolist() for column in own(IMAGE)[:3]]


def test_a_model_that_votes_gives_the_boxes_of_evaluation_whatever_the_threshold(
        project: Path, dataset: DetectionDataset, weights: dict[str, torch.Tensor]) -> None:
    votes = Postprocess(nms_iou=0.3, vote_iou=0.5)
    save_model(Path("voting.pt"), SPEC, weights, {}, votes)
    measured = predict(load_model().net, dataset, votes, 2, torch.device("cpu"), workers=0, progress=False)
    boxes = measured.boxes[measured.images == 0]
    high = float(np.sort(Detector("voting.pt", threshold=0.01)(IMAGE).scores)[-10])
    plain, low, few = Detector(threshold=high, nms_iou=0.3)(IMAGE), *(
        Detector("voting.pt", threshold=threshold)(IMAGE) for threshold in (0.01, high))
    assert len(few.boxes) == 10
    assert few.boxes == pytest.approx(low.boxes[:10], abs=1e-3)
    assert few.boxes[:, :2] == pytest.approx(boxes[:10, :2], abs=1e-2)
    assert np.abs(few.boxes - plain.boxes).max() > 0.1
    assert few.scores == pytest.approx(plain.scores)


def test_tiles_are_the_model_s_unless_the_call_names_others(project: Path, weights: dict[str, torch.Tensor]) -> None:
    save_model(Path("tiled.pt"), SPEC, weights, {}, Postprocess(tiles=4))
    none, four, own, off = (Detector(path, threshold=0.01, tiles=tiles)(IMAGE).boxes.tolist()
                            for path, tiles in ((MODEL_PATH, None), (MODEL_PATH, 4), ("tiled.pt", None), ("tiled.pt", 0)))
    assert none == off != four == own


def test_objects_become_supervision_s_detections(project: Path) -> None:
    supervision = pytest.importorskip("supervision")
    detector = Detector(threshold=0.01)
    found = detector(IMAGE)
    given = found.to_supervision()
    assert isinstance(given, supervision.Detections)
    assert np.array_equal(given.xyxy, found.boxes)
    assert np.array_equal(given.confidence, found.scores)
    assert [detector.class_names[index] for index in given.class_id] == list(found.names) == given["class_name"].tolist()
    assert len(Detector(threshold=1.0)(IMAGE).to_supervision()) == 0


def test_a_missing_supervision_is_named_with_the_command(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)  # as if it were not installed
    with pytest.raises(StateError, match=r"supervision is not installed\. `pip install supervision`"):
        Detector(threshold=0.01)(IMAGE).to_supervision()


def test_soft_nms_finds_what_hard_nms_finds_and_more(project: Path) -> None:
    hard, soft = (Detector(threshold=0.01, top_k=5000, nms=nms)(IMAGE) for nms in ("hard", "soft"))
    assert len(soft.scores) > len(hard.scores)
    assert soft.scores[0] == hard.scores[0]


def test_a_stream_reads_one_batch_ahead_and_gives_the_pixels_back(project: Path) -> None:
    read: list[int] = []

    def images() -> Iterator[np.ndarray]:
        for i in range(100):
            read.append(i)
            yield np.full((20, 30, 3), i, np.uint8)

    stream = Detector(threshold=0.01, batch_size=4).stream(images())
    assert read == []
    seen = [next(stream)[0] for _ in range(5)]
    assert [int(pixels[0, 0, 0]) for pixels in seen] == [0, 1, 2, 3, 4]
    assert len(read) == 8


@pytest.mark.parametrize(("argument", "value", "allowed"), [
    ("device", "gpu", "'auto', 'cpu', 'cuda' or 'cuda:1'"), ("device", 0, "'auto'"), ("threshold", 1.5, "from 0 to 1"),
    ("threshold", np.nan, "from 0 to 1"), ("top_k", 0, "a whole number, 1 or more"), ("top_k", 2.5, "a whole number"),
    ("nms_iou", -0.1, "from 0 to 1"), ("tiles", 65, "'auto' or a whole number, 0 to 64"), ("tiles", True, "'auto' or a whole"),
    ("nms", "none", "hard or soft"), ("batch_size", 0, "a whole number, 1 or more"),
])
def test_an_argument_out_of_its_range_is_named(argument: str, value: object, allowed: str) -> None:
    with pytest.raises(InputError, match=f"Detector: {argument} is {value!r}; it must be {allowed}"):
        Detector(**{argument: value})  # type: ignore[arg-type]


def test_the_package_gives_the_detector_and_imports_nothing_heavy_before() -> None:
    code = "import sys, ssd_lib; print({'torch', 'cv2', 'numpy'} & set(sys.modules), hasattr(ssd_lib, 'Detectors'))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "set() False\n"
    assert ssd_lib.Detector is Detector


@pytest.mark.parametrize(("shape", "dtype"), [((4, 4), "uint8"), ((4, 4, 3), "float32"), ((0, 4, 3), "uint8")])
def test_an_array_that_is_not_an_image_is_an_error(project: Path, shape: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(InputError, match=r"an image is .* of shape .*; it must be uint8"):
        Detector()(np.zeros(shape, dtype))


def test_a_missing_model_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="dvc repro train"):
        Detector(tmp_path / "none.pt")


@pytest.mark.timeout(60)
@pytest.mark.skipif(os.name != "posix", reason="only POSIX systems have named pipes and devices")
def test_a_pipe_or_a_device_is_never_waited_for(tmp_path: Path, project: Path) -> None:
    for name in ("a.pt", "a.pth", "a.onnx", "a.jpg", "a.mp4"):
        os.mkfifo(tmp_path / name)
    for model in ("a.pt", "a.pth", "a.onnx"):
        with pytest.raises((InputError, StateError), match=f"{model}: it is a pipe"):
            Detector(tmp_path / model)
    (tmp_path / "b.pt").symlink_to("/dev/zero")
    with pytest.raises(InputError, match="it is a pipe, a socket or a device"):
        Detector(tmp_path / "b.pt")
    with pytest.raises(InputError, match=r"a\.jpg: cannot be read: it is a pipe"):
        Detector()(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"a\.mp4: it is a pipe"), open_video(tmp_path / "a.mp4"):
        pass


@pytest.mark.parametrize("image", [None, b"bytes", 3, torch.zeros(3, 4, 4), [torch.zeros(3, 4, 4)]])
def test_an_object_that_is_not_an_image_is_named_by_its_type(project: Path, image: object) -> None:
    kind = type(image[0] if isinstance(image, list) else image).__name__
    with pytest.raises(InputError, match=f"Detector: an image is a {kind}; it must be the path of an image file, or a NumPy"):
        Detector()(image)


def test_each_class_has_its_own_threshold_and_a_number_overrules_it(project: Path) -> None:
    weights = load_model().net.state_dict()
    everything = Detector(threshold=0.0, top_k=5000)(IMAGE)
    classes = range(1, 1 + len(SPEC.class_names))
    chosen = tuple(float(np.median(everything.scores[everything.labels == label])) for label in classes)
    save_model(Path("chosen.pt"), SPEC, weights, {}, Postprocess(class_thresholds=chosen, max_detections=5000))
    shown = Detector("chosen.pt")(IMAGE)
    assert len(shown.scores)
    for label, threshold in enumerate(chosen, start=1):
        of_class = everything.scores[(everything.labels == label) & (everything.scores >= np.float32(threshold))]
        assert sorted(shown.scores[shown.labels == label]) == sorted(of_class)
    assert len(Detector("chosen.pt", threshold=0.0)(IMAGE).scores) > len(shown.scores)


def test_a_model_without_thresholds_is_shown_from_a_score_of_0_4(project: Path) -> None:
    save_model(Path("old.pt"), SPEC, load_model().net.state_dict(), {})
    assert Detector("old.pt").thresholds.tolist() == pytest.approx([0.4] * len(SPEC.class_names))


def test_thresholds_of_other_classes_are_refused(project: Path) -> None:
    save_model(Path("wrong.pt"), SPEC, load_model().net.state_dict(), {}, Postprocess(class_thresholds=(0.5,)))
    with pytest.raises(InputError, match="1 class_thresholds for"):
        Detector("wrong.pt")
