"""models/ssd.pt: a saved model is loaded unchanged; other files are refused."""

from pathlib import Path

import pytest
import torch

from ssd_lib.boxes.selection import Postprocess
from ssd_lib.errors import InputError, StateError
from ssd_lib.nets.model_file import NetSpec, load_model, save_model

SPEC = NetSpec("mb2-ssd-lite", 64, 0.25, ("cat", "dog"), (17, 18))


def test_a_saved_model_is_loaded_unchanged(tmp_path: Path) -> None:
    net = SPEC.build(seed=3).eval()
    save_model(tmp_path / "ssd.pt", SPEC, net.state_dict(), {"epochs": 7})
    model = load_model(tmp_path / "ssd.pt")
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(model.net(image)[0], net(image)[0])
    assert model.spec == SPEC
    assert model.about == {"epochs": 7}
    assert not model.net.training


def test_a_missing_model_names_the_stage_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="dvc repro train"):
        load_model(tmp_path / "ssd.pt")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 cut short"])
def test_a_file_that_is_not_a_model_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ssd.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"ssd\.pt: not a model file"):
        load_model(tmp_path / "ssd.pt")


def test_other_torch_files_are_refused(tmp_path: Path) -> None:
    torch.save({"weights": {}}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="its format is not"):
        load_model(tmp_path / "other.pth")


def test_postprocess_values_are_stored_and_files_without_them_have_the_published_ones(tmp_path: Path) -> None:
    path, own = tmp_path / "ssd.pt", Postprocess(0.1, 0.7, 50, 30, (0.5, 0.25, 0.4))
    save_model(path, SPEC, SPEC.build().state_dict(), {}, own)
    assert load_model(path).postprocess == own
    content = torch.load(path, weights_only=True)
    assert content.pop("postprocess") == {"score_threshold": 0.1, "nms_iou": 0.7, "top_k_per_class": 50, "max_detections": 30,
                                          "class_thresholds": (0.5, 0.25, 0.4)}
    torch.save(content, path)
    assert load_model(path).postprocess == Postprocess(0.01, 0.45, 200, 100)
