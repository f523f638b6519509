"""The benchmarks: what they measure on, that the baseline computes the same, and messages instead of tracebacks."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.made_up import Found, Object, detections, truth
from torchvision.ops import nms

from benchmarks import baseline, coco_numbers, kill_campaign, noop_repro, tiles
from benchmarks.clone import make_clone
from benchmarks.detection import CANDIDATES, PARAMS, trained_outputs
from benchmarks.images import MAX_IMAGES, MIN_IMAGES, open_images
from ssd_lib.boxes.coder import decode
from ssd_lib.boxes.loss import detection_loss
from ssd_lib.evaluate.coco_eval import PYCOCOTOOLS
from ssd_lib.params import load_params


@pytest.mark.parametrize("settings", [kill_campaign.SETTINGS, noop_repro.SETTINGS], ids=["kill_campaign", "noop_repro"])
def test_a_benchmark_s_settings_fit_the_shipped_parameters(tmp_path: Path, settings: dict[str, dict[str, Any]]) -> None:
    params = load_params("model", "train", path=make_clone(tmp_path / "clone", settings) / "params.yaml")
    assert params.model.net == settings["model"]["net"]
    assert params.train.epochs == settings["train"]["epochs"]


def test_images_are_the_demos_by_default() -> None:
    with open_images(None) as images:
        assert len(images.fixed) == MAX_IMAGES
        assert all(images.path_of(images.fixed.file_name(index)).is_file() for index in range(MAX_IMAGES))
        assert not Path("params.yaml").exists(), "caches must not be written to the project"


def test_a_dataset_of_ones_own_is_cut_to_as_many_images(shared_data: Path) -> None:
    with open_images(shared_data / "voc-bccd.zip") as images:
        assert len(images.fixed) == MAX_IMAGES
        assert len(images.fixed.boxes) == images.fixed.box_offsets[-1]


def test_too_few_images_end_in_a_message(shared_data: Path) -> None:
    with pytest.raises(SystemExit, match=f"has 24 training images; the benchmarks need at least {MIN_IMAGES}"), \
            open_images(shared_data / "yolo-coco36"):
        pass


def test_loss_of_the_baseline_equals_ours() -> None:
    rng = torch.Generator().manual_seed(0)
    logits, offsets, targets = (torch.randn(2, 100, size, generator=rng) for size in (5, 4, 4))
    labels = torch.randint(1, 5, (2, 100), generator=rng) * (torch.rand(2, 100, generator=rng) < 0.1)
    priors = torch.full((100, 4), 0.5)
    sums = detection_loss(logits, offsets, labels, decode(targets, priors), priors)
    ours = torch.stack([sums.box, sums.classification]) / sums.positives
    torch.testing.assert_close(torch.stack(baseline.loss(logits, offsets, labels, targets)), ours)


def test_boxes_of_the_baseline_equal_ours() -> None:
    outputs = trained_outputs(1)
    corners = decode(outputs.offsets, outputs.priors)
    torch.testing.assert_close(baseline.decode(outputs.offsets, outputs.priors), corners)
    rows = torch.cat([corners[0, :500], torch.linspace(1, 0, 500)[:, None]], dim=1)
    kept = nms(rows[:200, :4], rows[:200, 4], baseline.NMS_IOU)
    torch.testing.assert_close(baseline.nms(rows), rows[kept])


def test_made_up_outputs_have_as_many_candidates_as_a_trained_net() -> None:
    passing = int((trained_outputs(2).logits.softmax(dim=-1)[..., 1:] >= PARAMS.score_threshold).sum())
    assert passing == pytest.approx(2 * CANDIDATES, rel=0.05)


def test_a_missing_faster_coco_eval_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(coco_numbers, "fastest_tools", lambda: PYCOCOTOOLS)
    monkeypatch.setattr(sys, "argv", ["coco_numbers", "--images", "3", "--rounds", "1", "--detections", "2"])
    coco_numbers.main()
    output = capsys.readouterr().out
    assert "faster-coco-eval is not installed and was not measured" in output
    assert "| faster-coco-eval |" not in output


def test_an_installed_faster_coco_eval_is_compared(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    other = PYCOCOTOOLS._replace(index=type("Index", (PYCOCOTOOLS.index,), {}))
    monkeypatch.setattr(coco_numbers, "fastest_tools", lambda: other)
    monkeypatch.setattr(sys, "argv", ["coco_numbers", "--images", "3", "--rounds", "1", "--detections", "2"])
    coco_numbers.main()
    assert "the twelve numbers differ by at most 0" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, "not JSON\n", '{"a": 1}\n', "[1, 2]\n7\n"])
def test_a_log_that_is_none_ends_in_a_message(tmp_path: Path, content: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "kills.jsonl"
    if content is not None:
        log.write_text(content)
    monkeypatch.setattr(sys, "argv", ["kill_campaign", "--kills", "0", "--log", str(log)])
    with pytest.raises(SystemExit, match="not a log of kills"):
        kill_campaign.main()


def test_the_table_of_a_log_counts_kills_and_losses() -> None:
    row = {"moment": "anywhere", "target": "dvc", "signal": "SIGKILL", "command": "dvc repro", "shell": "/bin/sh",
           "lost": False,
           "orphans": 0, "same_weights": True}
    table = kill_campaign.table([row, row, {**row, "target": "group", "lost": True}])
    assert "| dvc | 2 | 0 | 0 |" in table
    assert table.endswith("3 kills; 1 lost a checkpoint, 0 left an orphan, 0 led to other weights")


def test_made_up_splits_for_coco_numbers_are_sorted_by_image() -> None:
    _, fixed, predictions = coco_numbers.make_split(images=4, per_image=3)
    assert len(fixed) == 4
    assert np.all(np.diff(predictions.images) >= 0)


def test_recall_with_tiles_is_that_of_small_objects_of_others_and_of_each_class() -> None:
    large = (20, 20, 90, 90)
    objects = truth(Object(0, (0, 0, 9, 9)), Object(0, large, 2), Object(0, large, is_crowd=True), Object(1, (50, 0, 59, 9), 2),
                    classes=2)
    found = detections(Found(0.9, 0, (0, 0, 9, 9)), Found(0.8, 0, large, 2), Found(0.7, 0, (30, 30, 40, 40)),
                       Found(0.6, 1, (0, 50, 9, 59), 2))
    assert tiles.recalls(objects, found) == pytest.approx([1 / 2, 1, 1, 1 / 2, 2 / 3])
