"""Detectors of files of other runtimes; tests of one that is not installed are skipped."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from support.project import ROOT
from support.runtime_files import METADATA, folder_of, installed
from torchvision.ops import box_iou

from ssd_lib import Detector
from ssd_lib.cli import main
from ssd_lib.detect.exported_net import checked_metadata, exported_net, thread_count
from ssd_lib.errors import InputError, StateError
from ssd_lib.export.export import export
from ssd_lib.export.packages import PACKAGES
from ssd_lib.export.runtimes import RUNTIMES, Run
from ssd_lib.images import decode_image
from ssd_lib.nets.model_file import MODEL_PATH
from ssd_lib.params import ExportParams
from ssd_lib.processes import available_cores


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_file_that_the_library_cannot_read_is_one_error(runtime: str, tmp_path: Path,
                                                          capfd: pytest.CaptureFixture[str]) -> None:
    installed(runtime)
    with pytest.raises(InputError, match=rf"{runtime}: not an exported detector of this project \("):
        Detector(folder_of(runtime, tmp_path))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_that_is_not_installed_is_one_line_with_its_package(runtime: str, tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch,
                                                                      capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(PACKAGES, runtime, (("runtime-of-nobody",), ()))
    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((10, 20, 3), np.uint8))
    folder = folder_of(runtime, tmp_path)
    assert main(["detect", str(tmp_path / "photo.png"), "--model", str(folder)]) == 1
    printed, = capsys.readouterr().err.splitlines()
    assert printed == f"ERROR {folder}: {RUNTIMES[runtime].title} is not installed. `pip install runtime-of-nobody`"


def test_a_gpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"'cuda' is not available for .*OpenVINO computes on the CPU here"):
        Detector(folder_of("openvino", tmp_path), "cuda")


@pytest.mark.parametrize(("metadata", "fault"), [
    ({}, "its metadata has no image_size and no classes"),
    (METADATA | {"image_size": 8}, "metadata: image_size: found 8"),
    (METADATA | {"source_ids": [1]}, "it has 1 source ids for 2 classes"),
])
def test_wrong_metadata_are_an_error_before_the_library_reads_a_file(tmp_path: Path, metadata: dict, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        Detector(folder_of("ncnn", tmp_path, metadata=metadata))


@pytest.mark.parametrize(("device", "threads", "any_batch", "sizes"), [
    ("cpu", "1", False, [1, 1, 1]), ("cpu", "1", True, [3]), ("cpu", "2", True, [1, 2]), ("cuda", "2", True, [3]),
    ("cuda", "2", False, [1, 1, 1])])
def test_each_thread_gets_a_batch_of_a_net_that_takes_any(device: str, threads: str, any_batch: bool, sizes: list[int],
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    seen: list[int] = []
    opened: list[int] = []

    def run(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(len(pixels))
        values = pixels.mean(axis=(1, 2, 3)).reshape(-1, 1, 1)
        return values * np.ones((1, 1, 3), np.float32), values * np.ones((1, 1, 4), np.float32)

    def open_run(threads: int) -> Run:
        opened.append(threads)
        return run

    net = exported_net(run, open_run, checked_metadata(METADATA), device, "made up", any_batch)
    images = np.array([0, 102, 255], np.uint8).reshape(3, 1, 1, 1) * np.ones((1, 64, 64, 3), np.uint8)
    scores, boxes = net.score_priors(images)
    assert sorted(seen) == sizes
    assert opened == [1] * (threads == "2" and device == "cpu"), "images side by side are computed by one thread each"
    assert scores[:, 0, 0] == pytest.approx([-1, -0.2, 1])
    assert (scores.shape, boxes.shape) == ((3, 1, 2), (3, 1, 4))


@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["scores", "boxes"])
def test_a_net_that_gives_no_numbers_is_an_error(place: str, fault: float) -> None:
    values = {"scores": np.zeros((1, 2, 3), np.float32), "boxes": np.zeros((1, 2, 4), np.float32)}
    values[place][0, 1, 2] = fault

    def run(_: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return values["scores"], values["boxes"]

    net = exported_net(run, lambda _: run, checked_metadata(METADATA), "cpu", "made up")
    with pytest.raises(StateError, match="its output in made up is nan or infinite"):
        net.score_priors(np.zeros((1, 64, 64, 3), np.uint8))


@pytest.mark.parametrize(("asked", "count"), [("3", 3), ("0", 1), ("", available_cores()), ("two", available_cores())])
def test_threads_are_those_of_the_environment_or_of_the_cores(asked: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert thread_count() == count


@pytest.fixture(scope="module", params=["openvino", pytest.param("ncnn", marks=pytest.mark.slow)])
def exported(request: pytest.FixtureRequest, finished_training: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a runtime beside the model that it was exported from."""
    installed(request.param)
    root = tmp_path_factory.mktemp("runtime")
    shutil.copytree(finished_training, root, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        summary = export(ExportParams(opset=18, nms=False, int8=False, dynamic_batch=False, formats=["onnx", request.param]))
        assert f"{request.param}: models/{request.param}/{RUNTIMES[request.param].files[0]}, " in summary
    return root / "models" / request.param


def test_several_threads_find_the_same(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [noise(seed) for seed in range(6)]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    expected = [Detector(exported, threshold=0.01)(image) for image in images]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    for one, other in zip(expected, Detector(exported, threshold=0.01)(images), strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-5)


def test_signals_still_work_after_several_detectors(exported: Path) -> None:
    program = """if True:
        import signal, sys
        from ssd_lib import Detector
        first, second = Detector(sys.argv[1]), Detector(sys.argv[1])
        del first
        del second
        signal.signal(signal.SIGINT, lambda *_: print("a signal"))
        signal.raise_signal(signal.SIGINT)
        """
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", program, exported], capture_output=True, text=True,
                          cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (0, "a signal\n"), done.stderr


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (80, 120, 3)).astype(np.uint8)


def test_metadata_of_other_classes_than_the_files_are_an_error(exported: Path, tmp_path: Path) -> None:
    files = {name: (exported / name).read_bytes() for name in RUNTIMES[exported.name].files}
    metadata = METADATA | {"classes": ["BACKGROUND", "dog", "kite", "tree"]}
    with pytest.raises(InputError, match=r"outputs have the shapes \(1, \d+, 3\).*; they must be .*'scores': \[1, \d+, 4\]"):
        Detector(folder_of(exported.name, tmp_path, files, metadata))


def test_a_detector_finds_what_the_model_finds(exported: Path) -> None:
    model = Detector(exported.parent / MODEL_PATH.name, "cpu", threshold=0.01)
    runtime = RUNTIMES[exported.name]
    for path in (exported, exported / runtime.files[0]):
        detector = Detector(path, threshold=0.01)
        assert (detector.class_names, detector.source_ids, detector.precision) == (("dog", "kite"), (18, 38), "fp32")
        for image in (noise(1), noise(2)):
            expected, found = model(image), detector(image)
            assert len(found.scores) == 100
            assert found.scores == pytest.approx(expected.scores, abs=1e-4)
            near = np.abs(found.boxes[:, None] - expected.boxes).max(axis=2) < 0.1  # pixels; equal scores may change places
            assert near.any(axis=1).mean() > 0.98


@pytest.mark.slow
def test_forty_photographs_have_the_objects_of_pytorch(exported: Path, shared_data: Path) -> None:
    with zipfile.ZipFile(shared_data / "coco-mirror/zips/val2017.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))[:40]
        images = [image for image in map(decode_image, map(archive.read, names)) if image is not None]
    expected, found = (Detector(path, "cpu", threshold=0.3)(images) for path in (exported.parent / MODEL_PATH.name, exported))
    assert (len(images), sum(len(one.scores) for one in expected) > 40) == (40, True)
    for one, other in zip(expected, found, strict=True):
        assert len(one.scores) == len(other.scores)
        overlaps = box_iou(torch.from_numpy(one.boxes), torch.from_numpy(other.boxes)).numpy()
        same = (overlaps > 0.9) & (one.labels[:, None] == other.labels) & (np.abs(one.scores[:, None] - other.scores) < 1e-4)
        assert same.any(axis=1).all()
