"""What a run starts from, and the parts that it keeps frozen."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_run import final_weights, run_stage, set_params

from ssd_lib.annotations.fixed_set import load_fixed
from ssd_lib.checkpoint.file import LAST, read_checkpoint
from ssd_lib.nets.model_file import NetSpec, load_model, save_model
from ssd_lib.nets.zoo import build_net
from ssd_lib.params import load_params
from ssd_lib.train.setup import PRIORS_PATH, make_spec, report_priors

SAME = NetSpec("mb2-ssd-lite", 64, 0.1, ("red", "blue"), (3, 7))
OTHERS = NetSpec("mb2-ssd-lite", 64, 0.1, ("cup", "fork", "pan"), (1, 2, 3))


def _changed(folder: Path, before: dict[str, torch.Tensor]) -> set[str]:
    """Return the parts of the model with a changed value, in any of the nets of training."""
    after = [final_weights(folder), read_checkpoint(folder / "models" / "checkpoints" / LAST).weights]
    return {key.split(".")[0] for weights in after for key in before if not torch.equal(weights[key], before[key])}


@pytest.mark.parametrize(("freeze", "trained"), [
    pytest.param("none", {"backbone", "extras", "class_heads", "box_heads"}, marks=pytest.mark.slow),
    ("backbone", {"extras", "class_heads", "box_heads"}),
    pytest.param("all-but-heads", {"class_heads", "box_heads"}, marks=pytest.mark.slow),
])
def test_what_is_frozen_keeps_its_weights_and_its_statistics(workspace: Path, freeze: str, trained: set[str]) -> None:
    before = SAME.build(seed=9).state_dict()
    save_model(Path("my.pt"), SAME, before, {})
    set_params(workspace, model={"weights": "my.pt"}, freeze=freeze, epochs=1)
    ended = run_stage(workspace)
    assert ended.returncode == 0, ended.stderr
    assert _changed(workspace, before) == trained


def test_a_frozen_stem_ends_where_the_stride_would_exceed_four(workspace: Path) -> None:
    before = SAME.build(seed=9).state_dict()
    save_model(Path("my.pt"), SAME, before, {})
    set_params(workspace, model={"weights": "my.pt"}, freeze="stem", epochs=1)
    ended = run_stage(workspace)
    assert ended.returncode == 0, ended.stderr
    after = final_weights(workspace)
    kept = {key.split(".")[2] for key in before if key.startswith("backbone") and torch.equal(after[key], before[key])}
    changed = {key.split(".")[2] for key in before if key.startswith("backbone") and not torch.equal(after[key], before[key])}
    assert kept == {"0", "1", "2", "3"}, "MobileNetV2 has 24 channels of stride 4 up to its layer 3"
    assert changed == {str(i) for i in range(4, 19)}


def test_a_detector_of_other_classes_is_fine_tuned(workspace: Path) -> None:
    before = OTHERS.build(seed=9).state_dict()
    save_model(Path("my.pt"), OTHERS, before, {})
    set_params(workspace, model={"weights": "my.pt"}, freeze="all-but-heads", epochs=1, lr=1e-6)
    ended = run_stage(workspace)
    assert "class_heads" in ended.stdout
    assert "new: 3 classes there, 2 here" in ended.stdout
    model = load_model()
    assert model.spec.class_names == ("red", "blue")
    assert torch.equal(model.net.state_dict()["extras.0.conv.2.weight"], before["extras.0.conv.2.weight"])
    assert torch.allclose(model.net.state_dict()["box_heads.0.0.weight"], before["box_heads.0.0.weight"], atol=1e-4)


def test_weights_that_do_not_exist_are_reported_before_anything_is_done(workspace: Path) -> None:
    set_params(workspace, model={"weights": "gone.pth"})
    ended = run_stage(workspace)
    assert ended.returncode == 1
    assert "ERROR params.yaml: model.weights is 'gone.pth', which cannot be read" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_run_starts_from_backbone_weights(workspace: Path) -> None:
    backbone = build_net("mb2-ssd-lite", 2, 64, 0.1, seed=5).backbone.state_dict()
    torch.save(backbone, "backbone.pth")
    set_params(workspace, model={"backbone_weights": "backbone.pth"}, freeze="backbone", epochs=1)
    ended = run_stage(workspace)
    assert "backbone: 260 of 260 tensors from backbone.pth" in ended.stdout
    last = "features.18.0.weight"
    assert torch.equal(final_weights(workspace)[f"backbone.{last}"], backbone[last])


def test_fitted_priors_are_saved_with_the_model(workspace: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    set_params(workspace, model={"priors": "auto"}, epochs=1)
    ended = run_stage(workspace)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(PRIORS_PATH.read_text())
    model = load_model()
    published = build_net("mb2-ssd-lite", 2, 64, 0.1)
    assert report["fitted"]
    assert [size * 64 for size in model.spec.prior_sizes] == pytest.approx(report["sizes_px"], abs=0.05)
    assert not torch.equal(model.net.priors, published.priors)
    report_priors(model.net, load_fixed("train"), is_fitted=True)
    assert caplog.messages[-1] in ended.stdout


def test_the_report_counts_every_object_by_its_size_in_the_net_s_input(workspace: Path,
                                                                       caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    fixed = load_fixed("train")
    params = load_params("model", "train")
    net = make_spec(params.model, params.train, fixed).build()
    report_priors(net, fixed, is_fitted=False)
    report = json.loads(PRIORS_PATH.read_text())
    assert report["boxes"] == 12
    assert sum(row["boxes"] for row in report["by_side_px"]) == 12
    assert report["priors"] == len(net.priors)
    sides = fixed.boxes[:, 2] - fixed.boxes[:, 0]  # squares, in images as large as the net's input
    lower_edges = sorted({2 ** int(np.log2(side)) if side >= 8 else 0 for side in sides})
    assert [row["from"] for row in report["by_side_px"]] == lower_edges
    assert sum(row["recall"] * row["boxes"] for row in report["by_side_px"]) == pytest.approx(12 * report["recall"], abs=0.01)
    assert "% of the boxes fit one (IoU 0.5)" in caplog.text


@pytest.mark.slow
def test_frozen_parts_of_a_continued_checkpoint_are_those_of_its_model(workspace: Path, never_stopped: Path) -> None:
    before = final_weights(never_stopped)
    shutil.copy(never_stopped / "models" / "checkpoints" / LAST, "my.pt")
    set_params(workspace, resume="my.pt", freeze="backbone", epochs=3)
    ended = run_stage(workspace)
    assert ended.returncode == 0, ended.stderr
    assert _changed(workspace, before) == {"extras", "class_heads", "box_heads"}
