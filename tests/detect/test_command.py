import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from support.folders import run as run_local
from support.processes import wait_until
from support.servers import Fault, serve
from support.trained_project import SPEC
from support.videos import FPS, HEIGHT, WIDTH, frames_of, make_video

import detect
from ssd_lib.annotations.read import read_splits
from ssd_lib.annotations.table import box_rows
from ssd_lib.boxes.selection import Postprocess
from ssd_lib.detect import process
from ssd_lib.detect.command import results_rows
from ssd_lib.detect.detector import Detector, Objects
from ssd_lib.detect.video import frame_count, frame_rate, frame_size, open_video
from ssd_lib.evaluate.drawing import write_image
from ssd_lib.exif import EXIF_ORIENTATION, INVERSE, turn_pixels
from ssd_lib.images import read_image
from ssd_lib.nets.model_file import MODEL_PATH, NetSpec, save_model

SCRIPT = Path(detect.__file__)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with a model and two images, one of them in a subfolder with the same name."""
    monkeypatch.chdir(tmp_path)
    spec = NetSpec("mb2-ssd-lite", 64, 0.1, ("dog", "kite"), (18, 38))
    save_model(MODEL_PATH, spec, spec.build().state_dict(), {})
    for name in ("images/a.png", "images/deeper/a.png"):
        write_image(Path(name), np.random.default_rng(0).integers(0, 255, (50, 80, 3)).astype(np.uint8))
    return Path("images")


@pytest.fixture
def video(images: Path) -> Path:
    return make_video(Path("clip.mp4"), frames=20)


def rows_of(path: str) -> list[dict[str, Any]]:
    return json.loads(Path(path).read_text())


def test_a_folder_is_drawn_described_and_written(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect.main(["images", "--threshold", "0.1", "--json", "found.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("model: models/ssd.pt, ")
    assert lines[1].startswith(str(Path("images/a.png")) + ": ")
    assert lines[-1].startswith("2 images, ")
    assert lines[-1].endswith("images/s; drawings in detections")
    assert read_image(Path("detections/a.jpg")).shape == (50, 80, 3)
    assert Path("detections/a_2.jpg").is_file()
    rows = rows_of("found.json")
    assert {row["file_name"] for row in rows} == {"images/a.png", "images/deeper/a.png"}
    assert {(row["class_name"], row["category_id"]) for row in rows} <= {("dog", 18), ("kite", 38)}
    assert "frame" not in rows[0]


def test_photographs_that_exif_turns_are_detected_and_drawn_upright(images: Path) -> None:
    upright = read_image(images / "a.png")
    for orientation in range(1, 9):
        exif = Pillow.Exif()
        exif[EXIF_ORIENTATION] = orientation
        stored = turn_pixels(upright, INVERSE.get(orientation, orientation))
        Pillow.fromarray(stored).save(images / f"{orientation}.png", exif=exif)
    assert detect.main(["images", "--threshold", "0.1", "--json", "found.json"]) == 0
    rows = rows_of("found.json")
    boxes = {number: [row["bbox"] for row in rows if row["file_name"] == f"images/{number}.png"] for number in range(1, 9)}
    assert boxes[1]
    assert all(found == boxes[1] for found in boxes.values())
    assert read_image(Path("detections/6.jpg")).shape == (50, 80, 3)


def test_postprocess_values_are_the_model_s_unless_the_command_names_others(images: Path) -> None:
    spec = NetSpec("mb2-ssd-lite", 64, 0.1, ("dog", "kite"), (18, 38))
    save_model(Path("other.pt"), spec, spec.build().state_dict(), {}, Postprocess(nms_iou=0.7, max_detections=150))
    found = []
    for options in ((), ("--model", "other.pt"), ("--model", "other.pt", "--nms-iou", "0.45", "--top-k", "100")):
        detect.main(["images/a.png", "--threshold", "0.1", "--json", "found.json", *options])
        found.append(rows_of("found.json"))
    assert (len(found[0]), len(found[1])) == (100, 150)
    assert found[1][:100] != found[0] == found[2]


def test_an_unreadable_file_is_reported_and_skipped(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (images / "b.jpg").write_bytes(b"not an image")
    (images / "c.mp4").write_bytes(b"not a video")
    assert detect.main(["images", "--device", "cpu"]) == 1
    printed = capsys.readouterr()
    assert f"{Path('images/b.jpg')}: not a readable image" in printed.err
    assert "images/c.mp4: not a video" in printed.err
    assert "2 images" in printed.out
    assert "2 could not be read to the end" in printed.out
    assert {path.name for path in Path("detections").iterdir()} == {"a.jpg", "a_2.jpg"}


def test_top_k_and_nms_are_handed_on(images: Path) -> None:
    found = {}
    for nms in ("hard", "soft"):
        detect.main(["images/a.png", "--threshold", "0.05", "--top-k", "90", "--nms", nms, "--json", f"{nms}.json"])
        found[nms] = rows_of(f"{nms}.json")
    assert len(found["soft"]) == 90
    assert found["soft"] != found["hard"]


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
def test_detections_become_labels_that_the_readers_read(images: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    (images / "broken.jpg").write_bytes(b"not an image")
    arguments = ["images", "--threshold", "0.1", "--top-k", "9", "--json", "found.json", "--save-labels", form]
    assert detect.main(arguments) == 1
    assert f"; labels in detections/{form}" in capsys.readouterr().out
    detected = sorted((row["class_name"], *row["bbox"]) for row in rows_of("found.json"))
    parts = [part.annotations for split in read_splits(run_local(f"detections/{form}")).values() for part in split]
    read = sorted((part.categories[[row.id for row in part.categories].index(box.category_id)].name, *box[3:7])
                  for part in parts for box in box_rows(part.boxes))
    assert {Path(name).name for part in parts for name in part.images.file_names} == {"a.png", "a_2.png"}
    assert len(detected) == 18
    assert [row[0] for row in read] == [row[0] for row in detected]
    assert np.array([row[1:] for row in read]) == pytest.approx(np.array([row[1:] for row in detected]), abs=0.011)

    Path(f"detections/{form}/mine.txt").write_text("corrected by hand")
    assert detect.main(arguments) == 1
    assert f"ERROR --save-labels: detections/{form} exists already" in capsys.readouterr().err
    assert Path(f"detections/{form}/mine.txt").read_text() == "corrected by hand"


def test_a_video_is_drawn_frame_by_frame_with_its_size_and_rate(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect.main(["clip.mp4", "--threshold", "0", "--top-k", "1", "--json", "found.json"]) == 0
    with open_video(Path("detections/clip.mp4")) as capture:
        assert (frame_count(capture), frame_size(capture), frame_rate(capture)) == (20, (HEIGHT, WIDTH), FPS)
    rows = rows_of("found.json")
    assert [(row["file_name"], row["frame"]) for row in rows] == [("clip.mp4", i) for i in range(20)]
    printed = capsys.readouterr()
    assert "\nclip.mp4: 20 frames, " in printed.out
    assert "20 frames, 20 objects, " in printed.out
    assert printed.err == ""  # no progress bar where there is no terminal


def test_a_video_s_frames_differ_at_the_boxes_and_nowhere_else(video: Path) -> None:
    detect.main(["clip.mp4", "--threshold", "0", "--top-k", "1", "--json", "found.json"])
    pairs = zip(frames_of(video), frames_of(Path("detections/clip.mp4")), rows_of("found.json"), strict=True)
    for before, after, row in pairs:
        x, y, _, height = row["bbox"]
        change = np.abs(before.astype(int) - after).max(axis=2)
        line = change[int(y + height / 2), max(0, round(x) - 1):round(x) + 2]  # the box's left side, at half its height
        assert line.max() > 60
        far = np.ones((HEIGHT, WIDTH), bool)
        far[max(0, int(y) - 24):int(y + height) + 6, max(0, int(x) - 6):] = False  # its name may stand above, and be longer
        assert far.sum() == 0 or np.median(change[far]) < 12


def test_a_video_that_breaks_off_keeps_its_frames_and_is_named(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = make_video(Path("whole.avi"), 40, "MJPG").read_bytes()
    Path("half.avi").write_bytes(whole[:len(whole) // 2])
    assert detect.main(["half.avi", "--threshold", "0", "--top-k", "1", "--json", "found.json"]) == 1
    kept = len(frames_of(Path("detections/half.mp4")))
    assert 5 < kept < 35
    assert len(rows_of("found.json")) == kept
    assert f"half.avi: ends after {kept} of 40 frames" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to a process")
def test_ctrl_c_leaves_a_video_that_plays_and_its_json(images: Path) -> None:
    make_video(Path("long.mp4"), frames=2000)
    process = subprocess.Popen([sys.executable, SCRIPT, "long.mp4", "--threshold", "0", "--json", "found.json"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    wait_until_frames_are_written(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    kept = len(frames_of(Path("detections/long.mp4")))
    assert (process.returncode, err) == (130, "")
    assert 0 < kept < 2000
    counted = max(row["frame"] for row in rows_of("found.json")) + 1
    assert counted in (kept, kept - 1)  # Ctrl-C may come between drawing a frame and counting it
    assert f"\n{counted} frames, " in out
    assert out.endswith("; stopped by Ctrl-C\n")
    assert [path.name for path in Path("detections").iterdir()] == ["long.mp4"]


def test_an_image_is_read_from_standard_input(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO((images / "a.png").read_bytes()), isatty=lambda: False))
    assert detect.main(["-", "--threshold", "0.1", "--json", "found.json"]) == 0
    assert read_image(Path("detections/stdin.jpg")).shape == (50, 80, 3)
    assert {row["file_name"] for row in rows_of("found.json")} == {"-"}


def test_sixteen_bits_on_standard_input_are_read_as_those_of_a_file(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = NetSpec("mb2-ssd-lite", 64, 0.1, ("dog", "kite"), (18, 38), sixteen_bit_range=(100, 4000))
    save_model(MODEL_PATH, spec, spec.build().state_dict(), {})
    data = cv2.imencode(".png", np.random.default_rng(0).integers(0, 4000, (50, 80, 3)).astype(np.uint16))[1].tobytes()
    Path("deep.png").write_bytes(data)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: False))
    assert detect.main(["-", "deep.png"]) == 0
    assert Path("detections/stdin.jpg").read_bytes() == Path("detections/deep.jpg").read_bytes()


def test_drawings_never_replace_the_images(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(images / "c.jpg", np.zeros((9, 9, 3), np.uint8))
    assert detect.main(["images", "--out", "images"]) == 1
    assert "the drawing would replace" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "message"), [
    (["97"], "ERROR 97: no camera with this number can be opened; the first is 0"),
    (["fotos"], "ERROR fotos: no image or video found"),
    (["images", "--threshold", "3"], "ERROR Detector: threshold is 3.0; it must be from 0 to 1"),
    (["images", "--top-k", "0"], "ERROR Detector: top_k is 0; it must be a whole number, 1 or more"),
    (["images", "--json", "images"], "ERROR --json images: is a folder"),
    (["images", "3", "--save-labels", "coco"], "ERROR --save-labels: camera3 is not an image file"),
    (["-", "--save-labels", "coco"], "ERROR --save-labels: - is not an image file"),
    (["images", "--json", "images/a.png"], "ERROR --json images/a.png: is an input and would be overwritten"),
    (["images", "--model", "none.pt"], "ERROR none.pt: missing. `dvc repro train` makes it"),
    (["images", "--model", "none.onnx"], "ERROR none.onnx: missing. `dvc repro export` makes it"),
])
def test_an_error_is_one_line(images: Path, arguments: list[str], message: str,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    assert detect.main(arguments) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(message)
    assert len(printed.splitlines()) == 1


def wait_until_frames_are_written(process: subprocess.Popen[str]) -> None:
    """Wait until the unfinished video has some kilobytes."""
    def are_written() -> bool:
        return any(path.stat().st_size > 10_000 for path in Path("detections").glob(".*.tmp.mp4"))
    wait_until(lambda: process.poll() is not None or are_written())
    assert process.poll() is None, process.communicate()[1]


def test_a_class_name_cannot_give_orders_to_the_terminal(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = NetSpec("mb2-ssd-lite", 64, 0.1, ("\x1b[2Jcar", "$\x07dog\n"), (18, 38))
    save_model(MODEL_PATH, spec, spec.build().state_dict(), {})
    assert detect.main(["images", "--threshold", "0"]) == 0
    printed = "".join(capsys.readouterr())
    assert "\\x1b[2Jcar" in printed
    assert not {"\x1b", "\x07"} & set(printed)


def test_threads_change_neither_the_order_nor_the_content_of_the_json(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_video(Path("images/clip.avi"), 30, "MJPG")
    for number in range(30):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 60, 3)).astype(np.uint8)
        write_image(Path(f"images/{number:02}.png"), pixels)
    Path("images/05.png").write_bytes(b"not an image")
    found = []
    for name in ("with threads", "without"):
        assert detect.main(["images", "--threshold", "0", "--top-k", "2", "--json", "found.json", "--out", name]) == 1
        found.append((Path("found.json").read_bytes(), {path.name: path.read_bytes() for path in Path(name).iterdir()}))
        monkeypatch.setattr(process, "read_ahead", lambda items, ahead: (item for item in items))
        monkeypatch.setattr(process, "map_ahead", lambda function, items, *_: (function(item) for item in items))
    assert found[0] == found[1]
    assert [(row["file_name"], row.get("frame")) for row in json.loads(found[0][0])[::2]] == [
        *((f"images/{number:02}.png", None) for number in range(30) if number != 5), ("images/a.png", None),
        ("images/deeper/a.png", None), *(("images/clip.avi", frame) for frame in range(30))]


def test_every_third_frame_plays_at_its_time_and_keeps_its_number(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect.main(["clip.mp4", "--threshold", "0", "--top-k", "1", "--json", "found.json", "--every", "3"]) == 0
    with open_video(Path("detections/clip.mp4")) as capture:
        assert frame_count(capture) == 7
        assert frame_rate(capture) == pytest.approx(FPS / 3, abs=0.01)
    assert [row["frame"] for row in rows_of("found.json")] == [0, 3, 6, 9, 12, 15, 18]
    printed = capsys.readouterr()
    assert ("clip.mp4: 7 frames, " in printed.out, printed.err) == (True, "")


def test_tracked_objects_have_an_id_in_the_json_and_in_the_drawing(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["images/a.png", "clip.mp4", "--threshold", "0", "--top-k", "1", "--json", "found.json", "--track", "--out"]
    assert detect.main([*options, "tracked"]) == 0
    rows = rows_of("found.json")
    assert ["track_id" in row for row in rows] == [False] + [True] * 20
    assert rows[1]["track_id"] == 1
    tracks = {row["track_id"] for row in rows[1:]}
    assert f", {len(tracks)} tracks\n" in capsys.readouterr().out
    assert detect.main([*options[:-2], "--out", "plain"]) == 0
    first, plain = (frames_of(Path(name) / "clip.mp4")[0].astype(int) for name in ("tracked", "plain"))
    assert np.abs(first - plain).max() > 60  # its name has the id


def test_rows_have_the_ids_of_the_dataset_and_of_the_tracks() -> None:
    objects = Objects(np.array([[1, 2, 4, 8], [0, 0, 9.004, 5]], np.float32), np.array([2, 1]),
                      np.array([0.75, 0.5], np.float32), ("kite", "dog"))
    rows = [{"file_name": "a.mp4", "frame": 6, "category_id": 38, "class_name": "kite", "score": 0.75, "bbox": [1, 2, 3, 6]},
            {"file_name": "a.mp4", "frame": 6, "category_id": 18, "class_name": "dog", "score": 0.5, "bbox": [0, 0, 9, 5]}]
    assert results_rows(process.FrameResult("a.mp4", 6, objects), (18, 38)) == rows
    assert results_rows(process.FrameResult("a.mp4", 6, objects, (7, 3)), (18, 38)) == [
        rows[0] | {"track_id": 7}, rows[1] | {"track_id": 3}]


def test_an_image_has_no_object_below_the_threshold_where_videos_are_tracked(images: Path) -> None:
    for threshold, count in (("0.1", 200), ("0.5", 0)):  # untrained, it gives every class about a third
        detect.main(["images", "--threshold", threshold, "--json", "found.json", "--track"])
        assert len(rows_of("found.json")) == count


def test_a_tracked_object_is_kept_where_its_score_falls_below_the_threshold(video: Path,
                                                                              weights: dict[str, torch.Tensor]) -> None:
    save_model(MODEL_PATH, SPEC, weights, {})  # its scores differ between priors, and a little between frames
    middle = float(np.median([found.scores for found in Detector(threshold=0.0)(frames_of(video)[::2])]))
    kept = []
    for further in ([], ["--track"]):
        detect.main(["clip.mp4", "--json", "found.json", "--every", "2", "--threshold", str(middle), *further])
        kept.append({(row["frame"], *row["bbox"]) for row in rows_of("found.json")})
    assert kept[0] < kept[1]


def test_a_url_gives_what_its_file_gives(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_video(Path("clip.avi"), 20, "MJPG").read_bytes()
    with serve({"/clip.avi": data, "/half.avi": data[:len(data) // 2]}) as server:
        urls = [f"{server.url}/clip.avi",
                *(f"{server.url}/{name}.avi".replace("//", "//me:secret@") for name in ("none", "half"))]
        assert detect.main(["clip.avi", *urls, "--threshold", "0", "--top-k", "1", "--json", "found.json"]) == 1
    rows = rows_of("found.json")
    assert [row | {"file_name": ""} for row in rows[:20]] == [row | {"file_name": ""} for row in rows[20:40]]
    assert rows[20]["file_name"] == urls[0]
    assert {path.name for path in Path("detections").iterdir()} == {"clip.mp4", "clip_2.mp4", "half.mp4"}
    printed = capsys.readouterr()
    missing, cut = printed.err.splitlines()
    assert missing == (f"{server.url}/none.avi: no video can be opened at this URL within 10 s. Check the address, that its "
                       "server runs, and that another player plays it. Skipped.")
    assert cut.startswith(f"{server.url}/half.avi: ends after ")
    assert "secret" not in printed.out + Path("found.json").read_text()


def test_the_end_of_a_stream_is_said(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = [cv2.imencode(".jpg", np.full((48, 64, 3), 9 * i, np.uint8))[1].tobytes() for i in range(5)]
    body = b"".join(b"--next\r\nContent-Type: image/jpeg\r\n\r\n" + one + b"\r\n" for one in pictures)
    camera = Fault(content_type="multipart/x-mixed-replace; boundary=next")
    with serve({"/": body}, faults=[camera]) as server:
        assert detect.main([f"{server.url}/", "--threshold", "0", "--top-k", "1", "--json", "found.json"]) == 0
        printed = capsys.readouterr()
        assert printed.err == f"{server.url}/: ended after 5 frames; the detections so far are kept\n"
    assert [row["frame"] for row in rows_of("found.json")] == [0, 1, 2, 3, 4]
    assert len(frames_of(Path("detections/127.0.0.1.mp4"))) == 5


def test_a_url_whose_video_cannot_be_read_in_parts_is_named(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_video(Path("clip.mov"), 40, "MJPG", (240, 320)).read_bytes()  # its index is at the end
    with serve({"/clip.mov": data}, knows_ranges=False) as server:
        assert detect.main([f"{server.url}/clip.mov"]) == 1
    assert capsys.readouterr().err == (
        f"{server.url}/clip.mov: no frame can be decoded. Check that another player plays it; if it does, download the file: "
        "its server or its format does not let it be read in parts. Skipped.\n")
