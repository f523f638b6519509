"""Pretrained backbone weights: torchvision's, files, and files that do not fit."""

import io
import zipfile
from pathlib import Path

import pytest
import torch
from support.nets import all_but_large
from torch import Tensor
from torchvision.models import get_weight, mobilenet_v2, mobilenet_v3_small, resnet34, squeezenet1_1, vgg16

from ssd_lib.errors import InputError
from ssd_lib.nets.imagenet import IMAGENET, Weights
from ssd_lib.nets.pretrained import with_backbone_weights
from ssd_lib.nets.zoo import build_net

CLASSIFIERS = {"mb2-ssd-lite": mobilenet_v2, "tv-mb3-small-ssd-lite": mobilenet_v3_small, "sq-ssd-lite": squeezenet1_1,
               "vgg16-ssd": vgg16, "resnet34-ssd": resnet34}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder where torch stores downloaded weights; there is no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", all_but_large(CLASSIFIERS))
def test_the_backbone_gets_the_weights_of_torchvision_s_classifier(name: str, cache: Path) -> None:
    torch.manual_seed(3)
    classifier = CLASSIFIERS[name](weights=None).eval().state_dict()
    torch.save(classifier, cache / Path(get_weight(IMAGENET[name].name).url).name)
    net = build_net(name, 2, 300)
    weights, line = with_backbone_weights(net, name, "imagenet")
    net.load_state_dict(weights)
    theirs = [value for key, value in classifier.items() if not key.endswith("num_batches_tracked")]
    ours = [value for key, value in net.backbone.state_dict().items() if not key.endswith("num_batches_tracked")]
    same = [torch.equal(a, b) for a, b in zip(theirs, ours, strict=False)]
    count = int(line.split()[1])
    assert f"tensors from {IMAGENET[name].name}" in line
    assert all(same[5:count])  # the first layer is rescaled
    assert count == len(ours) or name == "vgg16-ssd"


@pytest.mark.slow
def test_tensors_without_pretrained_weights_are_named(cache: Path) -> None:
    torch.save(vgg16(weights=None).state_dict(), cache / "vgg.pth")
    net = build_net("vgg16-ssd", 2, 300)
    _, line = with_backbone_weights(net, "vgg16-ssd", str(cache / "vgg.pth"))
    assert line.startswith(f"backbone: 26 of 34 tensors from {cache / 'vgg.pth'}; backbone.features.31.weight, ")


def test_a_state_dict_with_other_names_is_used_in_its_order(tmp_path: Path) -> None:
    net = build_net("mb1-ssd", 2, 64)
    other = {f"model.{i}": torch.rand_like(value) for i, (key, value) in enumerate(net.backbone.state_dict().items())
             if not key.endswith("num_batches_tracked")}
    torch.save({**other, "fc.weight": torch.zeros(1000, 1024)}, tmp_path / "mobilenet.pth")
    weights, _ = with_backbone_weights(net, "mb1-ssd", str(tmp_path / "mobilenet.pth"))
    assert torch.equal(weights["backbone.features.1.0.weight"], other["model.6"])


def test_without_a_network_the_message_has_the_url(cache: Path) -> None:
    with pytest.raises(InputError, match=r"cannot download https://.*mobilenet_v2.*\.pth .*and give its path, or set none"):
        with_backbone_weights(build_net("mb2-ssd-lite", 2, 64), "mb2-ssd-lite", "imagenet")


@pytest.mark.parametrize("name", ["mb1-ssd", "mb3-small-ssd-lite"])
def test_a_backbone_without_torchvision_weights_is_reported(name: str) -> None:
    with pytest.raises(InputError, match=f"no such weights for the backbone of {name}; there are for vgg16-ssd, mb2-ssd-lite"):
        with_backbone_weights(build_net(name, 2, 64), name, "imagenet")


def test_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    torch.save(resnet34(weights=None).state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(InputError, match=r"resnet\.pth: not the weights of mb2-ssd-lite's backbone: 0 of its 260 tensors"):
        with_backbone_weights(build_net("mb2-ssd-lite", 2, 64), "mb2-ssd-lite", str(tmp_path / "resnet.pth"))


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("image.jpg", "x")
    return file.getvalue()


def _saved(content: dict[str, Tensor]) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.mark.parametrize(("content", "reason"), [
    (b"", "it is empty"),
    (b"\n<!DOCTYPE html><html>404</html>", "it is a web page"),
    (_zip(), r"it is a zip archive of other files \(image\.jpg\)"),
    (_saved({"a": torch.zeros(1000)})[:3000], "it is truncated or damaged"),
    (b"something else", "it is truncated, damaged or of another format"),
])
def test_the_message_says_what_another_file_is(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(InputError, match=rf"x\.pth: not a file of weights.*{reason}"):
        with_backbone_weights(build_net("mb2-ssd-lite", 2, 64), "mb2-ssd-lite", str(tmp_path / "x.pth"))


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.pth: there is no such file"):
        with_backbone_weights(build_net("mb2-ssd-lite", 2, 64), "mb2-ssd-lite", str(tmp_path / "none.pth"))


def test_efficientnet_lite0_has_the_weights_of_an_installed_package() -> None:
    net = build_net("lite0-ssd-lite", 2, 64)
    weights, line = with_backbone_weights(net, "lite0-ssd-lite", "imagenet")
    assert line == "backbone: 245 of 245 tensors from EfficientNet-Lite0"
    assert weights["backbone.features.16.layers.2.1.running_var"].std() > 0.1  # of a new net it is 0


def test_a_changed_file_of_a_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_weights").mkdir()
    for name in ("__init__.py", "w.pth"):
        (tmp_path / "my_weights" / name).write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for package, reason in (("my_weights", r"w\.pth: not the published"), ("my_absent", "my-absent,.*not installed")):
        monkeypatch.setitem(IMAGENET, "lite0-ssd-lite", Weights("mine", "w.pth", package, "00"))
        with pytest.raises(InputError, match=reason):
            with_backbone_weights(build_net("lite0-ssd-lite", 2, 64), "lite0-ssd-lite", "imagenet")
