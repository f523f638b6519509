"""Other files of the same weights."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.project import ROOT

from ssd_lib.checkpoint.convert import convert, open_model
from ssd_lib.errors import InputError
from ssd_lib.nets.model_file import NetSpec, load_model, save_model
from ssd_lib.nets.upstream import to_upstream

SPEC = NetSpec("mb1-ssd", 96, 1.0, ("cat", "dog"), (1, 2))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model file, the same weights as upstream has them, and labels."""
    folder = tmp_path_factory.mktemp("files")
    weights = SPEC.build(seed=4).state_dict()
    save_model(folder / "ssd.pt", SPEC, weights, {"fingerprint": "f00d"})
    torch.save(to_upstream(weights), folder / "mb1.pth")
    (folder / "labels.txt").write_text("BACKGROUND\ncat\ndog\n")
    return folder


def test_a_file_of_upstream_becomes_a_detector(files: Path, tmp_path: Path) -> None:
    said = convert(files / "mb1.pth", tmp_path / "new.pt", "mb1-ssd", files / "labels.txt", 96)
    assert said.endswith(f"written: {tmp_path / 'new.pt'}, mb1-ssd of 2 classes")
    model, same = load_model(tmp_path / "new.pt"), load_model(files / "ssd.pt")
    image = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(model.net(image)[0], same.net(image)[0])
    assert model.spec == SPEC


def test_a_detector_becomes_a_file_of_upstream(files: Path, tmp_path: Path) -> None:
    convert(files / "ssd.pt", tmp_path / "new.pth", None, None, 300)
    new, old = (torch.load(path, weights_only=True) for path in (tmp_path / "new.pth", files / "mb1.pth"))
    assert new.keys() == old.keys()
    assert all(torch.equal(new[key], old[key]) for key in old)


def test_what_a_file_does_not_say_must_be_given(files: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mb1\.pth: .*needed are --net \(vgg16-ssd, .*sq-ssd-lite\) and --labels"):
        convert(files / "mb1.pth", tmp_path / "new.pt", None, None, 300)
    with pytest.raises(InputError, match=r"convert .*mb1\.pth ssd\.pt --net"):
        open_model(files / "mb1.pth")


def test_labels_must_be_as_many_as_the_classes(files: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\nbus\n")
    with pytest.raises(InputError, match=r"is of 2 classes; .*labels\.txt names 3 beside BACKGROUND"):
        convert(files / "mb1.pth", tmp_path / "new.pt", "mb1-ssd", tmp_path / "labels.txt", 300)


@pytest.mark.parametrize(("text", "message"), [("BACKGROUND\n", "names no class"), ("a\nb\na\n", "names 'a' twice")])
def test_labels_that_name_nothing_or_one_twice_are_refused(files: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        convert(files / "mb1.pth", tmp_path / "new.pt", "mb1-ssd", tmp_path / "labels.txt", 300)


def test_nothing_is_overwritten_and_the_name_says_what_is_wanted(files: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists"):
        convert(files / "mb1.pth", files / "ssd.pt", "mb1-ssd", files / "labels.txt", 96)
    with pytest.raises(InputError, match="ends in neither"):
        convert(files / "ssd.pt", tmp_path / "new.onnx", None, None, 300)


def test_the_command_converts_and_tells_faults_in_one_line(files: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ssd_lib.checkpoint", "convert", str(files / "mb1.pth"), str(tmp_path / "new.pt")]
    bad = subprocess.run([*command, "--net", "mb1-ssd"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert bad.returncode == 1
    assert bad.stderr.startswith("ERROR ")
    assert len(bad.stderr.splitlines()) == 1
    good = subprocess.run([*command, "--net", "mb1-ssd", "--labels", str(files / "labels.txt"), "--image-size", "96"], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    assert good.returncode == 0, good.stderr
    assert open_model(tmp_path / "new.pt").spec == SPEC


def test_fitted_priors_have_no_place_in_a_file_of_upstream(tmp_path: Path) -> None:
    spec = replace(SPEC, prior_sizes=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7))
    save_model(tmp_path / "ssd.pt", spec, spec.build().state_dict(), {})
    with pytest.raises(InputError, match=r"the priors of .* were fitted to its data .* Give a name that ends in \.pt"):
        convert(tmp_path / "ssd.pt", tmp_path / "x.pth", None, None, 300)


def test_what_a_file_says_itself_must_not_be_given(files: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names its own net, mb1-ssd, and its classes"):
        convert(files / "ssd.pt", tmp_path / "x.pt", "mb2-ssd-lite", None, 300)


def test_an_absurd_size_is_refused(files: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--image-size: 10; 64 to 1024 pixels are allowed"):
        convert(files / "mb1.pth", tmp_path / "x.pt", "mb1-ssd", files / "labels.txt", 10)
