"""Weights of a detector from any kind of file, and conversion between kinds."""

import logging
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from checkpoint.conftest import Make, Places
from support.kaboom import write_kaboom

from ssd_lib.checkpoint.file import LAST
from ssd_lib.checkpoint.weights import convert, fit_weights, open_model, read_weights
from ssd_lib.cli import main
from ssd_lib.errors import InputError
from ssd_lib.nets.model_file import NetSpec, load_model, save_model
from ssd_lib.nets.upstream import to_upstream

SPEC = NetSpec("mb2-ssd-lite", 64, 0.1, ("cat", "dog"), (17, 18))
MB1 = NetSpec("mb1-ssd", 96, 1.0, ("cat", "dog"), (1, 2))
OTHERS = replace(SPEC, class_names=("bus", "car", "tram"), source_ids=(1, 2, 3))
NEW = SPEC.build(seed=1)


def _lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the log since the last call, by lines."""
    lines = "\n".join(caplog.messages).splitlines()
    caplog.clear()
    return lines


@pytest.fixture(autouse=True)
def _log_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def _is_loaded(weights: dict[str, torch.Tensor], part: str, theirs: dict[str, torch.Tensor]) -> bool:
    """Whether all weights of a part are the file's; False when all are the new net's."""
    keys = [key for key in weights if key.startswith(f"{part}.") and not key.endswith("num_batches_tracked")]
    from_file = [torch.equal(weights[key], theirs[key]) for key in keys if weights[key].shape == theirs[key].shape]
    from_new = [torch.equal(weights[key], value) for key, value in NEW.state_dict().items() if key in keys]
    assert len(from_file) < len(keys) or all(from_file) or all(from_new)
    return len(from_file) == len(keys) and all(from_file)


def test_a_model_of_the_same_classes_is_loaded_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    theirs = SPEC.build(seed=2).state_dict()
    save_model(tmp_path / "ssd.pt", SPEC, theirs, {})
    weights = fit_weights(read_weights(tmp_path / "ssd.pt"), NEW, SPEC, "ssd.pt")
    lines = _lines(caplog)
    assert all(torch.equal(weights[key], theirs[key]) for key in theirs)
    assert lines[0] == "weights of ssd.pt (this project):"
    assert [line.split()[0] for line in lines[1:]] == ["backbone", "extras", "class_heads", "box_heads"]
    assert all(line.endswith(" tensors loaded") for line in lines[1:])


@pytest.mark.parametrize(("spec", "reason"), [
    (OTHERS, "new: 3 classes there, 2 here"),
    (replace(SPEC, class_names=("cat", "cow")), r"new: other classes ('cow' there, 'dog' here)"),
], ids=["number", "names"])
def test_other_classes_get_new_class_heads_and_the_old_rest(tmp_path: Path, spec: NetSpec, reason: str,
                                                            caplog: pytest.LogCaptureFixture) -> None:
    theirs = spec.build(seed=2).state_dict()
    save_model(tmp_path / "ssd.pt", spec, theirs, {})
    weights = fit_weights(read_weights(tmp_path / "ssd.pt"), NEW, SPEC, "ssd.pt")
    lines = _lines(caplog)
    assert [part for part in ("backbone", "extras", "class_heads", "box_heads") if not _is_loaded(weights, part, theirs)] == [
        "class_heads"]
    assert any("class_heads" in line and line.endswith(reason) for line in lines)


def test_another_image_size_is_no_hindrance(tmp_path: Path) -> None:
    theirs = SPEC.build(seed=2).state_dict()
    save_model(tmp_path / "ssd.pt", replace(SPEC, image_size=128), theirs, {})
    assert _is_loaded(fit_weights(read_weights(tmp_path / "ssd.pt"), NEW, SPEC, "x"), "class_heads", theirs)


def test_a_combo_checkpoint_gives_its_averaged_weights(make: Make, places: Places) -> None:
    net, average = SPEC.build(seed=2).state_dict(), SPEC.build(seed=3).state_dict()
    spec = {**asdict(SPEC), "mean": [127.0], "priors": 5}
    checkpoint = replace(make(1, 0), spec=spec, weights=net, average={"n_averaged": torch.tensor(3), **{
        f"module.{key}": value for key, value in average.items()}})
    places.save(checkpoint)
    file = read_weights(places.folder / LAST)
    assert file.spec == SPEC
    assert _is_loaded(fit_weights(file, NEW, SPEC, "x"), "backbone", average)
    assert all(torch.equal(value, net[key]) for key, value in replace(checkpoint, average={}).final_weights.items())


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_of_upstream_is_loaded_and_its_classes_counted(tmp_path: Path, prefix: str,
                                                                    caplog: pytest.LogCaptureFixture) -> None:
    theirs = OTHERS.build(seed=2).state_dict()
    torch.save({prefix + key: value for key, value in to_upstream(theirs).items()}, tmp_path / "mb2.pth")
    weights = fit_weights(read_weights(tmp_path / "mb2.pth"), NEW, SPEC, "mb2.pth")
    lines = _lines(caplog)
    assert _is_loaded(weights, "backbone", theirs)
    assert _is_loaded(weights, "box_heads", theirs)
    assert any(line.endswith("new: 3 classes there, 2 here") for line in lines)
    same = fit_weights(read_weights(tmp_path / "mb2.pth"), OTHERS.build(), OTHERS, "mb2.pth")
    lines = _lines(caplog)
    assert _is_loaded(same, "class_heads", theirs)
    assert "does not name its 3 classes; they are assumed to be the present ones" in lines[-1]


def test_a_file_of_kaboom_labs_is_rescaled_to_the_pixels_of_the_net(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    net = SPEC.build(seed=2)
    theirs = net.state_dict()
    write_kaboom(tmp_path / "COMBO_CHECKPOINT_x.pth", net, 3, prefix="module.", names=to_upstream(theirs))
    file = read_weights(tmp_path / "COMBO_CHECKPOINT_x.pth")
    weights = fit_weights(file, NEW, SPEC, "x.pth")
    lines = _lines(caplog)
    assert _is_loaded(weights, "extras", theirs)
    first = "backbone.features.0.0.weight"
    assert torch.allclose(weights[first], theirs[first] * 128 / 255)
    assert any("such files were trained on pixels in [0, 1]" in line for line in lines)


@pytest.mark.parametrize(("spec", "message"), [
    (replace(SPEC, width_mult=0.5), r"model\.width_mult 0\.5 is not 0\.1"),
    (replace(SPEC, net="mb3-small-ssd-lite", width_mult=1.0),
     r"model\.net mb3-small-ssd-lite is not mb2-ssd-lite; model\.width_mult 1\.0 is not 0\.1"),
])
def test_a_model_of_another_net_is_refused_by_name(tmp_path: Path, spec: NetSpec, message: str) -> None:
    save_model(tmp_path / "ssd.pt", spec, spec.build().state_dict(), {})
    with pytest.raises(InputError, match=rf"x: its weights are not this net's: {message}"):
        fit_weights(read_weights(tmp_path / "ssd.pt"), NEW, SPEC, "x")


def _write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/readme.txt", "hello")


def _write_html(path: Path) -> None:
    path.write_text("<!doctype html><title>Sign in</title>")


def _write_half(path: Path) -> None:
    torch.save(to_upstream(SPEC.build().state_dict()), path)
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def _write_whole_object(path: Path) -> None:
    torch.save(SPEC.build(), path)


def _write_numbers(path: Path) -> None:
    torch.save({"lr": 0.1, "epoch": 3}, path)


@pytest.mark.parametrize(("write", "reason"), [
    (_write_zip, r"it is a zip archive of other files \(model/readme\.txt\)"),
    (_write_html, "it is a web page"),
    (_write_half, "it is truncated or damaged"),
    (_write_whole_object, "it has pickled objects besides its weights, and these are not loaded"),
    (_write_numbers, "it holds a dict of lr, epoch"),
])
def test_a_file_without_weights_is_told_for_what_it_is(tmp_path: Path, write: object, reason: str) -> None:
    write(tmp_path / "x.pth")
    with pytest.raises(InputError, match=rf"x\.pth: not weights of a detector .*: {reason}"):
        read_weights(tmp_path / "x.pth")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.pth: there is no such file; weights of a detector .* is needed"):
        read_weights(tmp_path / "x.pth")


def test_a_damaged_combo_checkpoint_is_refused(make: Make, places: Places) -> None:
    places.save(make())
    path = places.folder / LAST
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"last\.pt: not "):
        read_weights(path)


def test_other_sizes_of_priors_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = replace(SPEC, prior_sizes=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7))
    save_model(tmp_path / "ssd.pt", spec, spec.build().state_dict(), {})
    fit_weights(read_weights(tmp_path / "ssd.pt"), NEW, SPEC, "ssd.pt")
    lines = _lines(caplog)
    assert "its priors have other sizes than this net's" in lines[-1]


@pytest.mark.parametrize("value", [
    torch.tensor([torch.nan]), torch.zeros(3, dtype=torch.int32), torch.zeros(3, dtype=torch.complex64),
    torch.zeros(3, device="meta"), torch.zeros(3).to_sparse(), "text"])
def test_what_no_net_can_begin_from_is_refused(tmp_path: Path, value: object) -> None:
    weights = {**SPEC.build().state_dict(), "extras.0.conv.2.weight": value}
    save_model(tmp_path / "ssd.pt", SPEC, weights, {})
    with pytest.raises(InputError, match=r"ssd\.pt: ('extras\.0\.conv\.2\.weight' is not a tensor of "
                                         r"finite|weights\.extras\.0\.conv"
                                         r"\.2\.weight: found .*; a dense tensor is needed)"):
        read_weights(tmp_path / "ssd.pt")


def test_a_file_of_kaboom_labs_with_nan_is_refused(tmp_path: Path) -> None:
    net = SPEC.build()
    names = {**to_upstream(net.state_dict()), "base_net.0.0.weight": torch.full((8, 3, 3, 3), torch.nan)}
    write_kaboom(tmp_path / "x.pth", net, 3, names=names)
    with pytest.raises(InputError, match=r"'base_net\.0\.0\.weight' is not a tensor of finite"):
        read_weights(tmp_path / "x.pth")


def test_a_file_of_kaboom_labs_with_plain_values_is_read_too(tmp_path: Path) -> None:
    weights = {f"module.{key}": value for key, value in to_upstream(SPEC.build(seed=2).state_dict()).items()}
    torch.save({"epoch": 3, "weights": weights, "optimizer": {}, "scheduler": {}}, tmp_path / "x.pth")
    assert read_weights(tmp_path / "x.pth").saw_unit_pixels


@pytest.mark.parametrize(("content", "message"), [
    ({"format": "ssd-model-2"}, "its format is 'ssd-model-2', which this version of the project does not know"),
    ({"format": "ssd-model-1", "weights": {}}, "lacks spec; it is damaged or from another version"),
    ({"format": "ssd-model-1", "spec": {**asdict(SPEC), "net": "yolo"}, "weights": {}},
     "spec: net: found 'yolo'; known are vgg16-ssd"),
    ({0: torch.zeros(1)}, "its weights are not this net's: the net has no '0'"),
])
def test_files_of_other_versions_and_odd_ones_are_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(InputError, match=message):
        fit_weights(read_weights(tmp_path / "x.pt"), NEW, SPEC, "x.pt")


def test_a_folder_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is a folder; weights of a detector"):
        read_weights(tmp_path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model file, the same weights as upstream has them, and labels."""
    folder = tmp_path_factory.mktemp("files")
    weights = MB1.build(seed=4).state_dict()
    save_model(folder / "ssd.pt", MB1, weights, {"fingerprint": "f00d"})
    torch.save(to_upstream(weights), folder / "mb1.pth")
    (folder / "labels.txt").write_text("BACKGROUND\ncat\ndog\n")
    return folder


def test_a_file_of_upstream_becomes_a_detector(files: Path, tmp_path: Path) -> None:
    convert(files / "mb1.pth", tmp_path / "new.pt", "mb1-ssd", files / "labels.txt", 96)
    model, same = load_model(tmp_path / "new.pt"), load_model(files / "ssd.pt")
    image = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(model.net(image)[0], same.net(image)[0])
    assert model.spec == MB1


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
    with pytest.raises(InputError, match=r"has 2 classes; .*labels\.txt names 3 beside BACKGROUND"):
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


def test_the_command_converts_and_prints_errors_in_one_line(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
                                                             ) -> None:
    command = ["checkpoint", "convert", str(files / "mb1.pth"), str(tmp_path / "new.pt"), "--net", "mb1-ssd"]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert error.startswith("ERROR ")
    assert len(error.splitlines()) == 1
    assert main([*command, "--labels", str(files / "labels.txt"), "--image-size", "96"]) == 0
    assert f"written: {tmp_path / 'new.pt'}, mb1-ssd of 2 classes" in capsys.readouterr().out
    assert open_model(tmp_path / "new.pt").spec == MB1


def test_fitted_priors_have_no_place_in_a_file_of_upstream(tmp_path: Path) -> None:
    spec = replace(MB1, prior_sizes=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7))
    save_model(tmp_path / "ssd.pt", spec, spec.build().state_dict(), {})
    with pytest.raises(InputError, match=r"the priors of .* were fitted to its data .* Give a name that ends in \.pt"):
        convert(tmp_path / "ssd.pt", tmp_path / "x.pth", None, None, 300)


def test_what_a_file_says_itself_must_not_be_given(files: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names its own net, mb1-ssd, and its classes"):
        convert(files / "ssd.pt", tmp_path / "x.pt", "mb2-ssd-lite", None, 300)


def test_an_absurd_size_is_refused(files: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--image-size: 10; 64 to 1024 pixels are allowed"):
        convert(files / "mb1.pth", tmp_path / "x.pt", "mb1-ssd", files / "labels.txt", 10)
