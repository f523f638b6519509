"""Open Images, from a small mirror of it with real images."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.open_images_mirror import CLASSES, QUICK, TRAIN, mirror_files, params
from support.processes import wait_until
from support.project import ROOT, runtime_params
from support.servers import Fault, serve

from ssd_lib.download.open_images import open_images
from ssd_lib.download.open_images_rows import read_rows
from ssd_lib.errors import InputError, StateError
from ssd_lib.files import sha256
from ssd_lib.manifest import Manifest, Part

RUNTIME = runtime_params()


def run(base_url: str, **changes: Any) -> Manifest:
    return open_images(params(base_url, **changes), RUNTIME, QUICK)


@pytest.fixture(scope="module")
def mirror(shared_data: Path) -> dict[str, bytes]:
    return mirror_files(shared_data)


def test_a_mirror_becomes_a_manifest_of_both_splits(mirror: dict[str, bytes], raw: Path) -> None:
    with serve(mirror) as server:
        manifest = run(server.url, depictions=False)
    assert (manifest.source, manifest.root) == ("open_images", f"open_images@{server.url[7:].replace(':', '_')}")
    assert manifest.classes == ("Person", "Dog")
    assert manifest.splits["train"] == (
        Part(format="open_images", images="train", annotations="sub-train-annotations-bbox.csv",
             class_names={"/m/01g317": "Person", "/m/0bt9lr": "Dog"}, depictions=False),)
    assert manifest.splits["val"][0].images == "validation"
    assert {split: len(manifest.images(split)) for split in manifest.splits} == {"train": 8, "val": 4}
    for name, (size, digest) in manifest.files.items():
        path = raw / manifest.root / name
        assert (path.stat().st_size, sha256(path)) == (size, digest)
        assert path.suffix == ".csv" or path.read_bytes() == mirror[f"/{name}"]


def test_the_rows_are_those_of_the_chosen_classes_and_images(mirror: dict[str, bytes], raw: Path) -> None:
    with serve(mirror) as server:
        manifest = run(server.url, classes=["Bottle", "Chair"])
    kept = manifest.path("sub-train-annotations-bbox.csv").read_bytes().splitlines()
    rows = mirror[TRAIN].splitlines()
    assert kept == [rows[0], *(row for row in rows if b",/m/04dr76w," in row or b",/m/01mzpv," in row)]
    assert {f"train/{row.image}.jpg" for row in read_rows(manifest.path("sub-train-annotations-bbox.csv"))} == set(
        manifest.images("train"))


def test_a_second_run_makes_no_request_and_the_same_manifest(mirror: dict[str, bytes], raw: Path) -> None:
    with serve(mirror) as server:
        first = run(server.url)
        server.gets.clear()
        assert run(server.url) == first
        assert (server.gets, server.heads) == ([], [])


def test_other_limits_fetch_the_new_images_alone(mirror: dict[str, bytes], raw: Path) -> None:
    with serve(mirror) as server:
        few = run(server.url, max_images=3)
        assert {split: len(few.images(split)) for split in few.splits} == {"train": 3, "val": 3}
        server.gets.clear()
        more = run(server.url, max_images=4)
        assert set(few.images("train")) < set(more.images("train"))
        assert {path[1:] for path, _ in server.gets} == set(more.files) - set(few.files)
        assert run(server.url, max_images=3) == few


def test_boxes_may_be_limited_for_each_class(mirror: dict[str, bytes], raw: Path) -> None:
    with serve(mirror) as server:
        manifest = run(server.url, classes=["Person", "Chair", "Book"], max_boxes_per_class=1)
    labels = [row.label for row in read_rows(manifest.path("sub-train-annotations-bbox.csv"))]
    assert set(labels) == {"/m/01g317", "/m/01mzpv", "/m/0bt_c3"}
    assert len(manifest.images("train")) <= 3


def test_drawings_alone_do_not_bring_an_image_where_they_do_not_count(mirror: dict[str, bytes], raw: Path) -> None:
    row = next(line for line in mirror[TRAIN].splitlines() if line.startswith(b"0000000000005200,xclick,/m/01g317"))
    drawn = mirror[TRAIN].replace(row, row[:-3] + b"1,0")  # IsDepiction
    with serve(mirror | {TRAIN: drawn}) as server:
        assert "train/0000000000005200.jpg" not in run(server.url, depictions=False).files
        assert "train/0000000000005200.jpg" in run(server.url, depictions=True).files


def test_an_image_that_is_gone_is_left_out_with_its_rows_and_named(
    mirror: dict[str, bytes], raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve({path: content for path, content in mirror.items() if path != "/train/0000000000001389.jpg"}) as server:
        manifest = run(server.url)
        assert run(server.url) == manifest
    assert len(manifest.images("train")) == 7
    assert "0000000000001389" not in manifest.path("sub-train-annotations-bbox.csv").read_text()
    assert "train: 1 of 8 images are not on the server; they are left out and listed in" in capsys.readouterr().err
    assert manifest.path("train-missing.txt").read_text() == "0000000000001389.jpg\n"


def test_classes_must_be_named_and_known(mirror: dict[str, bytes], raw: Path) -> None:
    with serve(mirror) as server:
        with pytest.raises(InputError, match=r"data\.classes is empty; .* e\.g\. \[Cat, Dog\]\. `python -m .* --stats-only`"):
            run(server.url, classes=[])
        with pytest.raises(InputError, match=r"data\.classes names 'Persons', .* 8 classes .*; did you mean 'Person'\?"):
            run(server.url, classes=["Persons"])
        with pytest.raises(InputError, match="no image of train shows any of these classes; each split needs some"):
            run(server.url, classes=["Dog"])
        assert not any(path.endswith(".jpg") for path, _ in server.gets)


@pytest.mark.parametrize(("path", "fault", "text"), [
    (TRAIN, Fault(body=b"<html>", content_type="text/html"), r"bbox\.csv: the server sent a web page"),
    (TRAIN, Fault(body=b"<html>log in</html>"), r"annotations-bbox\.csv: the file begins with b'<html>log in</html>'; Image"),
    (TRAIN, Fault(status=404), r"oidv6-train-annotations-bbox\.csv: the server answers HTTP 404"),
    (CLASSES, Fault(status=404), r"class-descriptions-boxable\.csv: the server answers HTTP 404"),
    (CLASSES, Fault(body=b"<html>log in</html>"), r"boxable\.csv: line 1 is '<html>log in</html>'; a label and a name"),
], ids=["page", "page without a type", "no annotations", "no classes", "page for classes"])
def test_a_wrong_file_is_named_and_never_kept(mirror: dict[str, bytes], raw: Path, path: str, fault: Fault, text: str) -> None:
    with serve(mirror, path_faults={path: [fault]}) as server:
        with pytest.raises(InputError, match=text):
            run(server.url)
        assert len(run(server.url).files) == 15


def test_a_server_that_is_away_is_said(raw: Path) -> None:
    with pytest.raises(StateError, match="given up after 3 attempts"):
        run("http://127.0.0.1:9")


def test_a_killed_download_goes_on(mirror: dict[str, bytes], raw: Path) -> None:
    """The annotations are made long, so that the kill finds them half way; then it is killed again among the images."""
    code = ("import sys; sys.path[:0] = ['.', 'tests']; from support.open_images_mirror import QUICK, params; "
            "from support.project import runtime_params; from ssd_lib.download import part_file; part_file.NOTE_BYTES = "
            "100_000; "
            "from ssd_lib.download.open_images import open_images; open_images(params(sys.argv[1]), runtime_params(), QUICK)")
    filler = b"".join(b"%016x,xclick,/m/0filler,1,0,1,0,1,0,0,0,0,0\n" % number for number in range(40_000))
    with serve(mirror | {TRAIN: mirror[TRAIN] + filler}, slow_bytes_per_s=2_000_000) as server:
        note = raw / f"open_images@{server.url[7:].replace(':', '_')}" / ".rows"

        def kill_when(ready: Any) -> None:
            process = subprocess.Popen([sys.executable, "-c", code, server.url], cwd=ROOT, stderr=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL)
            wait_until(ready)
            process.kill()
            process.wait()

        kill_when(lambda: any(b'"kept_bytes"' in path.read_bytes() for path in note.glob("*.part.json")))
        assert not list(note.glob("*.csv"))
        kill_when(lambda: len(list(raw.rglob("train/0*.jpg"))) >= 2)
        there = {f"/train/{path.name}" for path in raw.rglob("train/0*.jpg")}
        starts = [start for path, start in server.gets if path == TRAIN]
        assert starts[0] == 0 < 100_000 < starts[1]
        server.slow_bytes_per_s = 0
        server.gets.clear()
        manifest = run(server.url)
        asked = {path for path, _ in server.gets}
    assert there
    assert not asked & (there | {TRAIN, CLASSES})
    assert len(manifest.files) == 15
    assert all(manifest.path(name).read_bytes() == mirror[f"/{name}"] for name in manifest.files if name.endswith(".jpg"))
