from math import exp

import pytest
import torch
from torch import Tensor
from torchvision.ops import nms

from ssd_lib.errors import StateError
from ssd_lib.infer.postprocess import Detections, Nms, detect, select_detections
from ssd_lib.nets.zoo import build_net
from ssd_lib.params import EvalParams


def random_boxes(batch: int, priors: int, seed: int, side: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(batch, priors, 2, generator=generator) * (1 - 2 * side)
    return torch.cat([corner, corner + side * (0.5 + torch.rand(batch, priors, 2, generator=generator))], dim=2)


def one_class_at_a_time(scores: Tensor, boxes: Tensor, params: EvalParams) -> Detections:
    """What select_detections does for one image, as slowly and plainly as it can be said."""
    rows = []
    for k in range(scores.shape[1]):
        order = scores[:, k].argsort(descending=True)[:params.top_k_per_class]
        order = order[scores[order, k] >= params.score_threshold]
        for i in order[nms(boxes[order].double(), scores[order, k].double(), params.nms_iou)].tolist():
            rows.append((scores[i, k].item(), k + 1, i))
    rows = sorted(rows, reverse=True)[:params.max_detections]
    best, labels, indices = zip(*rows, strict=True)
    return Detections(boxes[list(indices)], torch.tensor(labels), torch.tensor(best))


@pytest.mark.parametrize(("top_k", "threshold"), [(200, 0.6), (15, 0.01), (40, 0.9), (500, 0.0)])
@pytest.mark.parametrize(("classes", "side"), [(3, 0.2), (80, 0.003)])
def test_a_batch_gives_what_one_class_at_a_time_gives(params: EvalParams, top_k: int, threshold: float, classes: int,
                                                      side: float) -> None:
    params = params.model_copy(update={"top_k_per_class": top_k, "score_threshold": threshold})
    scores = torch.rand(3, 300, classes, generator=torch.Generator().manual_seed(classes))
    boxes = random_boxes(3, 300, seed=classes, side=side)
    boxes[:, 150:] = boxes[:, :150] + side / 4  # every box has one that overlaps it
    for found, image_scores, image_boxes in zip(select_detections(scores, boxes, params), scores, boxes, strict=True):
        expected = one_class_at_a_time(image_scores, image_boxes, params)
        assert torch.equal(found.boxes, expected.boxes)
        assert torch.equal(found.labels, expected.labels)
        assert torch.equal(found.scores, expected.scores)


def test_small_boxes_of_the_last_class_are_told_apart_as_well_as_large_ones(params: EvalParams) -> None:
    first = random_boxes(1, 150, seed=0, side=0.003)
    shift = (first[..., 2] - first[..., 0]) * (0.548 / 1.452)  # gives an IoU of 0.452
    boxes = torch.cat([first, first + torch.stack([shift, 0 * shift, shift, 0 * shift], dim=2)], dim=1)
    scores = torch.zeros(1, 300, 90)
    scores[0, :, 89] = torch.linspace(0.9, 0.5, 300)
    params = params.model_copy(update={"max_detections": 300, "top_k_per_class": 300})
    [found] = select_detections(scores, boxes, params)
    assert len(found.boxes) <= 150


def test_overlapping_boxes_of_different_classes_both_stay(params: EvalParams) -> None:
    boxes = torch.tensor([[[0.1, 0.1, 0.5, 0.5], [0.1, 0.1, 0.5, 0.52]]])
    scores = torch.tensor([[[0.9, 0.0], [0.8, 0.7]]])
    [found] = select_detections(scores, boxes, params)
    assert found.labels.tolist() == [1, 2]
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])


def test_boxes_without_area_are_not_detections(params: EvalParams) -> None:
    boxes = torch.tensor([[[1.0, 0.2, 1.0, 0.4], [0.1, 0.1, 0.5, 0.5]]])
    params = params.model_copy(update={"score_threshold": 0.0})
    [found] = select_detections(torch.tensor([[[0.9], [0.5]]]), boxes, params)
    assert found.scores.tolist() == [0.5]


def test_an_image_without_detections_has_empty_ones(params: EvalParams) -> None:
    boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]] * 2)
    first, second = select_detections(torch.tensor([[[0.0]], [[0.5]]]), boxes, params)
    assert first.boxes.shape == (0, 4)
    assert second.boxes.tolist() == [[0, 0, 1, 1]]


def test_a_net_detects_without_leaving_its_mode_and_inside_the_image(params: EvalParams) -> None:
    net = build_net("mb2-ssd-lite", classes=3, image_size=64, width_mult=0.1).train()
    net.backbone.eval()  # a frozen part stays frozen
    modes = [module.training for module in net.modules()]
    before = net.state_dict()["extras.0.conv.0.1.running_mean"].clone()
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    found = detect(net, images, params)
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(net.state_dict()["extras.0.conv.0.1.running_mean"], before)
    assert len(found) == 2
    for one in found:
        assert len(one.boxes) == params.max_detections
        assert one.boxes.min() >= 0
        assert one.boxes.max() <= 1
        assert (one.scores.diff() <= 0).all()


def test_a_diverged_net_is_called_so(params: EvalParams) -> None:
    net = build_net("mb2-ssd-lite", classes=3, image_size=64, width_mult=0.1)
    with torch.no_grad():
        net.box_heads[0][-1].bias.fill_(torch.nan)
    with pytest.raises(StateError, match=r"nan or infinite.*diverged"):
        detect(net, torch.zeros(1, 3, 64, 64, dtype=torch.uint8), params)


def test_soft_nms_is_a_choice_and_keeps_what_hard_nms_drops(params: EvalParams) -> None:
    boxes = torch.tensor([[[0.0, 0.0, 0.4, 0.2], [0.05, 0.0, 0.45, 0.2]]])  # IoU 7/9
    scores = torch.tensor([[[0.0, 0.9], [0.0, 0.8]]])
    [hard] = select_detections(scores, boxes, params)
    [soft] = select_detections(scores, boxes, params, nms="soft")
    assert hard.scores.tolist() == pytest.approx([0.9])
    assert soft.labels.tolist() == [2, 2]
    assert soft.scores.tolist() == pytest.approx([0.9, 0.8 * exp(-((7 / 9) ** 2) / 0.5)])
    assert torch.equal(soft.boxes, boxes[0])


@pytest.mark.parametrize("nms", ["hard", "soft"])
def test_both_kinds_of_nms_hold_the_limits(params: EvalParams, nms: Nms) -> None:
    params = params.model_copy(update={"score_threshold": 0.3, "max_detections": 20})
    scores = torch.rand(2, 300, 3, generator=torch.Generator().manual_seed(0))
    for found in select_detections(scores, random_boxes(2, 300, seed=1, side=0.2), params, nms):
        assert len(found.scores) == 20
        assert found.scores.min() >= 0.3
        assert (found.scores.diff() <= 0).all()
