"""ImageNet weights: the table of files, and what the first stage finds out about them."""

from pathlib import Path

import pytest
import torch
from support.servers import serve
from torchvision.models import get_weight

from ssd_lib.nets import imagenet
from ssd_lib.nets.imagenet import IMAGENET, LITE0, MB2, Weights, cached_file, imagenet_fault
from ssd_lib.nets.zoo import NETS

TORCHVISIONS = {weights for weights in IMAGENET.values() if not weights.package}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return torch's folder, which is empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("weights", sorted(TORCHVISIONS), ids=lambda weights: weights.file)
def test_names_files_and_folders_are_torchvision_s(weights: Weights, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert imagenet.URL + weights.file == get_weight(weights.name).url
    for key in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(key, raising=False)
    for key in ("HOME", "XDG_CACHE_HOME", "TORCH_HOME"):  # from the weakest on
        monkeypatch.setenv(key, str(tmp_path / key))
        assert cached_file(weights) == Path(torch.hub.get_dir()) / "checkpoints" / weights.file


def test_only_known_nets_have_weights() -> None:
    assert IMAGENET.keys() < NETS.keys()


def test_a_file_in_the_cache_or_in_a_package_needs_no_network(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "URL", "http://127.0.0.1:9/")
    assert imagenet_fault("lite0-fpn") == ""
    assert "127.0.0.1:9/mobilenet_v2-b0353104.pth cannot be had" in imagenet_fault("mb2-fpn")
    cached_file(MB2).parent.mkdir(parents=True)
    cached_file(MB2).touch()
    assert imagenet_fault("mb2-fpn") == ""


def test_the_server_is_asked_for_a_file_that_is_not_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve({f"/{MB2.file}": b"weights"}) as server:
        monkeypatch.setattr(imagenet, "URL", f"{server.url}/")
        assert imagenet_fault("mb2-ssd-lite") == ""
        fault = imagenet_fault("resnet34-ssd")
        assert server.gets == []
    assert "resnet34-b627a593.pth cannot be had (HTTP Error 404" in fault
    assert "Download that file on another machine to that path, or set none, or auto" in fault
    assert str(home) in fault


def test_a_net_without_weights_and_a_package_that_is_not_installed_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there are no such weights for the backbone of mb1-ssd; there are for vgg16-ssd" in imagenet_fault("mb1-ssd")
    monkeypatch.setitem(IMAGENET, "lite0-fpn", LITE0._replace(package="my_absent"))
    assert "the package my-absent, which holds these weights, is not installed" in imagenet_fault("lite0-fpn")
