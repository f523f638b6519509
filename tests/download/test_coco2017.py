"""COCO 2017, from a small mirror of it with real images."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import project
from support.processes import wait_until
from support.project import ROOT, runtime_params
from support.servers import serve

from ssd_lib.download.coco2017 import TEST, TRAIN_VAL, coco2017
from ssd_lib.errors import InputError
from ssd_lib.manifest import Part
from ssd_lib.params import DataParams

RUNTIME = runtime_params(downloads=3)


def data_params(base_url: str, *splits: str) -> DataParams:
    return project.data_params(source="coco2017", base_url=base_url, splits=splits)


@pytest.fixture(scope="module")
def mirror(shared_data: Path) -> dict[str, bytes]:
    folder = shared_data / "coco-mirror"
    return {f"/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in folder.rglob("*.zip")}


def test_a_mirror_becomes_a_manifest_of_all_splits(mirror: dict[str, bytes], raw: Path) -> None:
    with serve(mirror) as server:
        manifest = coco2017(data_params(server.url, "train", "val", "test"), RUNTIME)
    assert (manifest.source, manifest.root) == ("coco2017", f"coco2017@{server.url[7:].replace(':', '_')}")
    assert manifest.splits["train"] == (Part(images="train2017", annotations="annotations/instances_train2017.json"),)
    assert {split: len(manifest.images(split)) for split in manifest.splits} == {"train": 80, "val": 80, "test": 24}
    assert {path: archive.bytes for path, archive in manifest.archives.items()} == {
        path[1:]: len(content) for path, content in mirror.items()
    }
    for split in manifest.splits:
        document = json.loads(manifest.path(manifest.splits[split][0].annotations).read_bytes())
        listed = {f"{manifest.splits[split][0].images}/{image['file_name']}" for image in document["images"]}
        assert listed == set(manifest.images(split))
    assert all(manifest.path(name).stat().st_size == size for name, (size, _) in manifest.files.items())
    assert not manifest.path("annotations/image_info_test-dev2017.json").exists()  # in the archive, but not needed


def test_a_second_run_makes_no_request_and_the_same_manifest(
    mirror: dict[str, bytes], raw: Path, tmp_path: Path
) -> None:
    def run(base_url: str, name: str) -> bytes:
        coco2017(data_params(base_url, "train", "val"), RUNTIME).save(tmp_path / name)
        return (tmp_path / name).read_bytes()

    with serve(mirror) as server:
        first = run(server.url, "1.json")
    assert not any("test" in path for path, _ in server.gets)
    assert run(f"{server.url}/", "2.json") == first  # the server is gone: a request would fail


def test_a_mirror_never_touches_official_data(mirror: dict[str, bytes], raw: Path) -> None:
    official = raw / "coco2017" / "train2017" / "a.jpg"
    official.parent.mkdir(parents=True)
    official.write_bytes(b"official")
    with serve({f"/some/path{path}": content for path, content in mirror.items()}) as server:
        address = server.url.replace("//", "//name:password@")
        manifest = coco2017(data_params(f"{address}/some/path", "train", "val"), RUNTIME)
    assert manifest.root == f"coco2017@{server.url[7:].replace(':', '_')}_some_path"
    assert [path.name for path in official.parent.parent.iterdir()] == ["train2017"]


def test_the_official_server_is_held_to_its_sizes(mirror: dict[str, bytes], raw: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(mirror) as server:
        monkeypatch.setattr("ssd_lib.download.coco2017.OFFICIAL", server.url)
        monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10**12}))
        with pytest.raises(InputError, match=r"\.zip: the server has \d+ bytes; the official file has \d+"):
            coco2017(data_params(server.url, "train", "val"), RUNTIME)
    assert not list(raw.rglob("*.jpg"))


def test_a_killed_download_fetches_only_the_rest(mirror: dict[str, bytes], raw: Path, tmp_path: Path) -> None:
    code = ("import sys; sys.path[:0] = ['.', 'tests']; from support.project import data_params, runtime_params; "
            "from ssd_lib.download.coco2017 import coco2017; "
            "coco2017(data_params(source='coco2017', base_url=sys.argv[1]), runtime_params(downloads=3))")
    with serve(mirror, slow_bytes_per_s=4_000_000) as server:
        process = subprocess.Popen([sys.executable, "-c", code, server.url], cwd=ROOT, stderr=subprocess.DEVNULL)
        wait_until(lambda: sum(path.stat().st_size for path in raw.rglob("*.zip.part")) >= 2_000_000)
        process.kill()
        process.wait()
        there = {f"/zips/{path.stem}": path.stat().st_size for path in raw.rglob("zips/*.zip.part")}
        server.slow_bytes_per_s = 0
        server.gets.clear()
        manifest = coco2017(data_params(server.url, "train", "val"), RUNTIME)
    assert len(there) == 2
    assert there.items() <= dict(server.gets).items()
    assert len(manifest.files) == 162


def test_the_table_holds_the_published_archives() -> None:
    rows = {remote.path: (remote.bytes, remote.md5) for remote in TRAIN_VAL + TEST}
    assert rows["zips/train2017.zip"] == (19336861798, "cced6f7f71b7629ddf16f17bbcfab6b2")
    assert rows["annotations/annotations_trainval2017.zip"] == (252907541, "f4bbac642086de4f52a3fdda2de5fa2c")
    assert rows["annotations/image_info_test2017.zip"] == (None, "85da7065e5e600ebfee8af1edb634eb5")
    assert all(md5 and len(md5) == 32 for _, md5 in rows.values())
