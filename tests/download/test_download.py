"""The stage as users run it: a process, its output, its exit code and what it leaves."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.open_images_mirror import mirror_files
from support.processes import wait_until
from support.project import ROOT, write_params
from support.servers import Fault, serve

from ssd_lib.download.coco2017 import TRAIN_VAL
from ssd_lib.manifest import load_manifest

ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "DVC_ROOT"} | {"PYTHONPATH": str(ROOT)}
COMMAND = [sys.executable, "-m", "stages.download"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project in which the stage ran once, with the smallest demo."""
    project = tmp_path_factory.mktemp("demo")
    set_data(project, demo_images=[4, 4])
    result = run(project)
    assert re.fullmatch(r"download: demo, 4 \+ 4 images, \d\.\d MB, \d+\.\d s\n", result.stdout), result.stderr
    return project


def set_data(project: Path, **data: object) -> None:
    write_params(project / "params.yaml", train__batch_size=4, **{f"data__{key}": value for key, value in data.items()})


def run(project: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *options], cwd=project, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)


def test_the_demo_is_made_once(made: Path) -> None:
    manifest_bytes = (made / "data/manifest.json").read_bytes()
    times = {path: path.stat().st_mtime_ns for path in made.rglob("*.jpg")}
    assert len(times) == 8
    assert run(made).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*.jpg")} == times
    assert (made / "data/manifest.json").read_bytes() == manifest_bytes


def test_a_demo_with_a_missing_picture_is_made_whole(made: Path) -> None:
    manifest = load_manifest(made / "data/manifest.json")
    assert re.fullmatch(r"demo-v\d+-4-4", manifest.root)
    image = made / "data/raw" / manifest.root / next(iter(manifest.images("train")))
    content = image.read_bytes()
    image.unlink()
    assert run(made).returncode == 0
    assert image.read_bytes() == content
    assert not list(made.rglob("*.zip"))


def test_a_local_data_set_is_listed(made: Path, tmp_path: Path) -> None:
    set_data(tmp_path, source="local", paths=[str(made / "data/raw" / load_manifest(made / "data/manifest.json").root)])
    assert run(tmp_path).stdout.startswith("download: local (coco), 4 + 4 images, ")


def test_a_fault_is_one_message_without_a_traceback(tmp_path: Path) -> None:
    with serve({}) as server:
        set_data(tmp_path, source="coco2017", base_url=server.url)
        result = run(tmp_path)
    assert result.returncode == 1
    assert re.search(r"ERROR http://127.*\.zip: the server answers HTTP 404 Not Found; this file must", result.stderr)
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "data/manifest.json").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to a process")
def test_ctrl_c_keeps_the_parts(tmp_path: Path) -> None:
    files = {f"/{remote.path}": bytes(5_000_000) for remote in TRAIN_VAL}
    with serve(files, slow_bytes_per_s=1_000_000) as server:
        set_data(tmp_path, source="coco2017", base_url=server.url)
        process = subprocess.Popen(COMMAND, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
                                   preexec_fn=hear_ctrl_c)
        wait_until(lambda: len(parts(tmp_path)) == 3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped; what is finished is kept" in errors
    assert "Traceback" not in errors
    assert len(parts(tmp_path)) == 3


def test_open_images_are_counted_before_they_are_downloaded(tmp_path: Path, shared_data: Path) -> None:
    with serve(mirror_files(shared_data)) as server:
        set_data(tmp_path, source="open_images", base_url=server.url, classes=["Person"], max_images=2)
        dry = run(tmp_path, "--stats-only")
        assert "Person           8          45           1           0\ntrain: 2 of 8 images would be" in dry.stdout, dry.stderr
        assert not (tmp_path / "data/manifest.json").exists()
        assert run(tmp_path).stdout.startswith("download: open_images, 2 + 2 images, ")
    assert len(load_manifest(tmp_path / "data/manifest.json").images("train")) == 2


def test_only_open_images_have_a_dry_run(tmp_path: Path) -> None:
    set_data(tmp_path, source="demo")
    result = run(tmp_path, "--stats-only")
    assert (result.returncode, result.stdout) == (1, "")
    assert "ERROR params.yaml: data.source is demo; --stats-only counts" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to a process")
def test_ctrl_c_among_silent_photos_does_not_wait_for_them(tmp_path: Path, shared_data: Path) -> None:
    files = mirror_files(shared_data)
    silent = {path: [Fault(stall_after=100)] for path in sorted(files) if path.startswith("/train/")}
    with serve(files, path_faults=silent) as server:
        set_data(tmp_path, source="open_images", base_url=server.url, classes=["Person"])
        process = subprocess.Popen(COMMAND, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
                                   preexec_fn=hear_ctrl_c)
        wait_until(lambda: any(path.startswith("/train/") for path, _ in server.gets))
        start_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - start_s < 10  # the silence lasts for 20 s
    assert "stopped; what is finished is kept" in errors
    assert "Traceback" not in errors


def hear_ctrl_c() -> None:
    """Restore SIGINT: what a shell starts in the background ignores it, a program in a terminal does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def parts(project: Path) -> list[Path]:
    return [path for path in project.rglob("*.part") if path.stat().st_size > 0]
