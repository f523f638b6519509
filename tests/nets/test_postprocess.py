"""Postprocess: detections of whole images, compared with a simple reference implementation."""

from math import exp

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import box_iou

from ssd_lib.boxes.coder import decode
from ssd_lib.boxes.selection import Nms, Postprocess
from ssd_lib.errors import StateError
from ssd_lib.nets.postprocess import Detections, decode_candidates, detect, select_detections
from ssd_lib.nets.zoo import build_net


def random_boxes(batch: int, priors: int, seed: int, side: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(batch, priors, 2, generator=generator) * (1 - 2 * side)
    return torch.cat([corner, corner + side * (0.5 + torch.rand(batch, priors, 2, generator=generator))], dim=2)


def reference_detections(scores: Tensor, boxes: Tensor, postprocess: Postprocess) -> Detections:
    """Return what select_detections returns for one image, computed one class and one box at a time."""
    rows = []
    for k in range(scores.shape[1]):
        candidates = [i for i in range(len(scores)) if scores[i, k] >= postprocess.score_threshold and has_area(boxes[i])]
        left = sorted(candidates, key=lambda i: -scores[i, k].item())[:postprocess.top_k_per_class]
        while left:
            best, *left = left
            rows.append((-scores[best, k].item(), best, k + 1))
            overlaps = box_iou(boxes[best, None].double(), boxes[left].double())[0] > postprocess.nms_iou
            left = [i for i, is_suppressed in zip(left, overlaps.tolist(), strict=True) if not is_suppressed]
    rows = sorted(rows)[:postprocess.max_detections]
    best, priors, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(boxes[list(priors)], torch.tensor(labels, dtype=torch.int64), -torch.tensor(best))


def has_area(box: Tensor) -> bool:
    return bool((box[2:] > box[:2]).all())


def assert_equal(found: Detections, expected: Detections) -> None:
    assert torch.equal(found.boxes, expected.boxes)
    assert torch.equal(found.labels, expected.labels)
    assert torch.equal(found.scores, expected.scores)


@st.composite
def images(draw: st.DrawFn) -> tuple[Tensor, Tensor, Postprocess]:
    """Draw scores, boxes and limits of an image.

    Boxes lie on a grid, so that many coincide, touch, overlap or have no area. Some scores are equal. Some limits are reached.
    """
    count, classes = draw(st.integers(1, 60)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 100_000)))
    corner = torch.randint(0, 6, (count, 2), generator=generator)
    boxes = torch.cat([corner, corner + torch.randint(0, 5, (count, 2), generator=generator)], dim=1) / 10
    levels = draw(st.sampled_from([3, 20, 1_000_000]))
    scores = torch.randint(0, levels, (count, classes), generator=generator) / levels
    threshold, iou = draw(st.sampled_from([0.0, 0.01, 0.5])), draw(st.sampled_from([0.2, 0.45]))
    per_class, of_all = draw(st.sampled_from([1, 4, 200])), draw(st.sampled_from([1, 3, 8, 100]))
    return scores, boxes, Postprocess(threshold, iou, per_class, of_all)


@given(images())
def test_detections_equal_the_reference(image: tuple[Tensor, Tensor, Postprocess]) -> None:
    scores, boxes, postprocess = image
    [found] = select_detections([scores], [boxes], postprocess)
    assert_equal(found, reference_detections(scores, boxes, postprocess))


@given(images())
def test_soft_nms_with_a_limit_gives_the_first_detections_without_it(image: tuple[Tensor, Tensor, Postprocess]) -> None:
    scores, boxes, postprocess = image
    [found] = select_detections([scores], [boxes], postprocess, "soft")
    [more] = select_detections([scores], [boxes], postprocess._replace(max_detections=1000), "soft")
    assert torch.equal(found.scores, more.scores[:postprocess.max_detections])


@pytest.mark.parametrize(("classes", "side"), [(3, 0.2), (80, 0.003)])
def test_detections_of_a_batch_equal_the_reference(classes: int, side: float) -> None:
    scores = torch.rand(3, 300, classes, generator=torch.Generator().manual_seed(classes))
    boxes = random_boxes(3, 300, seed=classes, side=side)
    boxes[:, 150:] = boxes[:, :150] + side / 4  # every box has one that overlaps it
    postprocess = Postprocess(top_k_per_class=40, score_threshold=0.99 if classes == 80 else 0.01)
    for found, image_scores, image_boxes in zip(select_detections(scores, boxes, postprocess), scores, boxes, strict=True):
        assert_equal(found, reference_detections(image_scores, image_boxes, postprocess))


@pytest.mark.parametrize("precision", [torch.float32, torch.float16])
@pytest.mark.parametrize("floor", [0.0, 0.01, 0.2])
def test_decoded_candidates_include_all_scores_that_reach_the_floor(floor: float, precision: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(4, 500, 6, generator=generator) + torch.tensor([6.0, 0, 0, 0, 0, 0])).to(precision)
    offsets, priors = torch.randn(4, 500, 4, generator=generator).to(precision), torch.rand(500, 4, generator=generator)
    scores, boxes = logits.float().softmax(dim=2)[..., 1:], decode(offsets.float(), priors).clamp(0, 1)
    found = decode_candidates(logits, offsets, priors, floor)
    for found_scores, found_boxes, all_scores, all_boxes in zip(*found, scores, boxes, strict=True):
        expected, is_candidate = (all_scores >= floor).any(dim=1), (found_scores >= floor).any(dim=1)
        assert torch.equal(found_scores[is_candidate], all_scores[expected])
        torch.testing.assert_close(found_boxes[is_candidate], all_boxes[expected])
        assert len(found_scores) == 500 if floor == 0 else len(found_scores) < 400


def test_nms_is_exact_for_small_boxes_of_the_last_class() -> None:
    first = random_boxes(1, 150, seed=0, side=0.003)
    shift = (first[..., 2] - first[..., 0]) * (0.548 / 1.452)  # gives an IoU of 0.452
    boxes = torch.cat([first, first + torch.stack([shift, 0 * shift, shift, 0 * shift], dim=2)], dim=1)
    scores = torch.zeros(1, 300, 90)
    scores[0, :, 89] = torch.linspace(0.9, 0.5, 300)
    postprocess = Postprocess(max_detections=300, top_k_per_class=300)
    [found] = select_detections(scores, boxes, postprocess)
    assert len(found.boxes) <= 150


def test_overlapping_boxes_of_different_classes_are_both_kept() -> None:
    boxes = torch.tensor([[[0.1, 0.1, 0.5, 0.5], [0.1, 0.1, 0.5, 0.52]]])
    scores = torch.tensor([[[0.9, 0.0], [0.8, 0.7]]])
    [found] = select_detections(scores, boxes, Postprocess())
    assert found.labels.tolist() == [1, 2]
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])


def test_boxes_without_area_are_not_detections() -> None:
    boxes = torch.tensor([[[1.0, 0.2, 1.0, 0.4], [0.1, 0.1, 0.5, 0.5]]])
    postprocess = Postprocess(score_threshold=0.0)
    [found] = select_detections(torch.tensor([[[0.9], [0.5]]]), boxes, postprocess)
    assert found.scores.tolist() == [0.5]


def test_an_image_without_detections_has_empty_tensors() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]] * 2)
    first, second = select_detections(torch.tensor([[[0.0]], [[0.5]]]), boxes, Postprocess())
    assert first.boxes.shape == (0, 4)
    assert second.boxes.tolist() == [[0, 0, 1, 1]]


def test_detect_keeps_the_mode_of_the_net_and_clips_boxes_to_the_image() -> None:
    net = build_net("mb2-ssd-lite", classes=3, image_size=64, width_mult=0.1).train()
    net.backbone.eval()  # a frozen part stays frozen
    modes = [module.training for module in net.modules()]
    before = net.state_dict()["extras.0.conv.0.1.running_mean"].clone()
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    found = detect(net, images, Postprocess())
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(net.state_dict()["extras.0.conv.0.1.running_mean"], before)
    assert len(found) == 2
    for one in found:
        assert len(one.boxes) == Postprocess().max_detections
        assert one.boxes.min() >= 0
        assert one.boxes.max() <= 1
        assert (one.scores.diff() <= 0).all()


@pytest.mark.parametrize("heads", ["class_heads", "box_heads"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_diverged_net_is_reported(heads: str, value: float) -> None:
    net = build_net("mb2-ssd-lite", classes=3, image_size=64, width_mult=0.1)
    with torch.no_grad():
        getattr(net, heads)[0][-1].bias[-1] = value
    with pytest.raises(StateError, match=r"nan or infinite.*diverged"):
        detect(net, torch.zeros(1, 3, 64, 64, dtype=torch.uint8), Postprocess())


def test_soft_nms_keeps_what_hard_nms_drops() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 0.4, 0.2], [0.05, 0.0, 0.45, 0.2]]])  # IoU 7/9
    scores = torch.tensor([[[0.0, 0.9], [0.0, 0.8]]])
    [hard] = select_detections(scores, boxes, Postprocess())
    [soft] = select_detections(scores, boxes, Postprocess(), nms="soft")
    assert hard.scores.tolist() == pytest.approx([0.9])
    assert soft.labels.tolist() == [2, 2]
    assert soft.scores.tolist() == pytest.approx([0.9, 0.8 * exp(-((7 / 9) ** 2) / 0.5)])
    assert torch.equal(soft.boxes, boxes[0])


def test_soft_nms_prefers_a_separate_object_to_copies_of_a_better_one() -> None:
    boxes = torch.tensor([[0.0, 0.0, 0.4, 0.4]] * 6 + [[0.5, 0.5, 0.9, 0.9]])
    scores = torch.tensor([0.9, 0.8, 0.8, 0.8, 0.8, 0.8, 0.5])[:, None]
    [found] = select_detections([scores], [boxes], Postprocess(max_detections=2), nms="soft")
    assert found.scores.tolist() == pytest.approx([0.9, 0.5])


@pytest.mark.parametrize("nms", ["hard", "soft"])
def test_both_kinds_of_nms_respect_the_limits(nms: Nms) -> None:
    postprocess = Postprocess(score_threshold=0.3, max_detections=20)
    scores = torch.rand(2, 300, 3, generator=torch.Generator().manual_seed(0))
    for found in select_detections(scores, random_boxes(2, 300, seed=1, side=0.2), postprocess, nms):
        assert len(found.scores) == 20
        assert found.scores.min() >= 0.3
        assert (found.scores.diff() <= 0).all()
