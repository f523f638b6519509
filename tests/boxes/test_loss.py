"""Losses: values worked out by hand."""

from itertools import product
from math import log

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

from ssd_lib.boxes.coder import decode
from ssd_lib.boxes.loss import Criterion, LossSums, detection_loss


def _loss(logits: list, labels: list, offsets: list | None = None, targets: list | None = None):
    logits_t, labels_t = torch.tensor(logits, dtype=torch.float32), torch.tensor(labels)
    zeros = torch.zeros(*labels_t.shape, 4)
    return multibox_loss(logits_t, zeros if offsets is None else torch.tensor(offsets), labels_t,
                         zeros if targets is None else torch.tensor(targets))


def multibox_loss(logits: Tensor, offsets: Tensor, labels: Tensor, target_offsets: Tensor) -> LossSums:
    """Return the published loss for the boxes that these offsets make of priors."""
    priors = torch.full((logits.shape[1], 4), 0.5)
    return detection_loss(logits, offsets, labels, decode(target_offsets, priors), priors)


def test_uniform_logits_cost_the_logarithm_of_the_classes() -> None:
    """One positive and its three negatives, each ln 3, of five background priors."""
    loss = _loss([[[0.0, 0, 0]] * 6], [[1, 0, 0, 0, 0, 0]])
    torch.testing.assert_close(loss.classification, torch.tensor(4 * log(3)))
    assert loss.positives == 1


def test_the_hardest_negatives_are_taken() -> None:
    logits = [[[0.0, 0], [0, 9], [0, 8], [0, 7], [0, 6], [9, 0]]]
    expected = log(2) + sum(log(1 + torch.tensor(float(x)).exp().item()) for x in (9, 8, 7))
    torch.testing.assert_close(_loss(logits, [[1, 0, 0, 0, 0, 0]]).classification, torch.tensor(expected))


def test_boxes_cost_smooth_l1_where_there_is_an_object() -> None:
    loss = _loss([[[0.0, 0]] * 2], [[1, 0]], [[[0.5, 2.0, 0, 0], [9.0, 9, 9, 9]]])
    torch.testing.assert_close(loss.box, torch.tensor(0.5 * 0.5**2 + (2.0 - 0.5)))


def test_ignored_priors_cost_nothing() -> None:
    with_ignored = _loss([[[0.0, 0], [0, 5], [0, 50]]], [[1, 0, -1]])
    without = _loss([[[0.0, 0], [0, 5]]], [[1, 0]])
    torch.testing.assert_close(with_ignored.classification, without.classification)


def test_image_without_objects_gives_a_finite_loss_that_trains_the_background() -> None:
    logits = torch.zeros(1, 8, 3, requires_grad=True)
    loss = multibox_loss(logits, torch.zeros(1, 8, 4), torch.zeros(1, 8, dtype=torch.int64), torch.zeros(1, 8, 4))
    torch.testing.assert_close(loss.classification.detach(), torch.tensor(3 * log(3)))
    assert loss.positives == 1
    loss.classification.backward()
    assert logits.grad is not None
    assert (logits.grad[..., 0] < 0).sum() == 3, "three priors are pulled to the background"


def test_hard_negatives_are_mined_per_image() -> None:
    """Each image has three negatives for each of its own positives."""
    logits = [[[0.0, 0]] * 8, [[0.0, 0]] * 8]
    loss = _loss(logits, [[1, 1, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]])
    torch.testing.assert_close(loss.classification, torch.tensor((2 + 6 + 1 + 3) * log(2)))
    assert loss.positives == 3


def test_half_precision_logits_give_a_float32_loss() -> None:
    loss = multibox_loss(torch.zeros(1, 4, 3, dtype=torch.bfloat16), torch.zeros(1, 4, 4, dtype=torch.bfloat16),
                         torch.tensor([[1, 0, 0, 0]]), torch.zeros(1, 4, 4))
    assert loss.classification.dtype == loss.box.dtype == torch.float32


def test_gradients_are_those_of_the_counted_priors_alone() -> None:
    """Cross-entropy over positives and mined negatives, smooth L1 over positives.

    Ignored and easy priors have zero gradients.
    """
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(1, 4, (4, 60), generator=generator) * (torch.rand(4, 60, generator=generator) < 0.1)
    labels[1] = 0
    labels[2, :40] = 1  # more positives than a quarter of the priors
    labels[:, 50:55] = -1
    targets = torch.randn(4, 60, 4, generator=generator)
    logits = torch.randn(4, 60, 4, generator=generator, requires_grad=True)
    offsets = torch.randn(4, 60, 4, generator=generator, requires_grad=True)
    loss = multibox_loss(logits, offsets, labels, targets)
    (2 * loss.classification + loss.box).backward()
    assert logits.grad is not None
    assert offsets.grad is not None
    counted, positive = logits.grad.abs().sum(dim=2) > 0, labels > 0
    positives = positive.sum(dim=1).clamp(min=1)
    assert torch.equal((counted & ~positive).sum(dim=1), torch.minimum(3 * positives, (labels == 0).sum(dim=1)))
    assert not counted[labels < 0].any()
    assert torch.equal(offsets.grad.abs().sum(dim=2) > 0, positive)
    counted_logits = logits.detach()[counted].requires_grad_()
    F.cross_entropy(counted_logits, labels[counted], reduction="sum").mul(2).backward()
    torch.testing.assert_close(logits.grad[counted], counted_logits.grad)


def _outputs(classes: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return logits, offsets, labels, boxes and priors, with positives and ignored priors."""
    rng = torch.Generator().manual_seed(seed)
    priors = torch.cat([torch.rand(30, 2, generator=rng) * 0.5 + 0.25, torch.full((30, 2), 0.3)], dim=1)
    labels = torch.randint(-1, 3, (2, 30), generator=rng).where(torch.rand(2, 30, generator=rng) < 0.3, 0)
    offsets = torch.randn(2, 30, 4, generator=rng)
    return (torch.randn(2, 30, classes, generator=rng), offsets, labels,
            decode(offsets + torch.randn(2, 30, 4, generator=rng), priors), priors)


@pytest.mark.parametrize("class_loss", ["focal", "quality"])
def test_losses_of_sigmoid_scores_are_those_of_the_papers(class_loss: str) -> None:
    """Summed logit by logit: the target of a positive's own class is 1, or the IoU of its box, every other target is 0."""
    logits, offsets, labels, boxes, priors = _outputs(classes=2)
    found = detection_loss(logits, offsets, labels, boxes, priors, Criterion("iou", class_loss, "smooth_l1"))
    expected = 0.0
    for i, p, k in product(range(2), range(30), range(2)):
        if labels[i, p] >= 0:
            iou = box_iou(decode(offsets[i, p], priors[p])[None], boxes[i, p][None]).item()
            target = float(labels[i, p] == k + 1) * (iou if class_loss == "quality" else 1.0)
            score = logits[i, p, k].sigmoid().item()
            cross_entropy = -target * log(score) - (1 - target) * log(1 - score)
            weight = (score - target) ** 2
            if class_loss == "focal":
                weight *= 0.25 if target else 0.75
            expected += weight * cross_entropy
    torch.testing.assert_close(found.classification, torch.tensor(expected), rtol=1e-4, atol=1e-4)


def test_giou_is_that_of_the_paper_for_positives() -> None:
    """One minus the IoU, plus the share of the enclosing box that neither box covers; twice, beside the class loss."""
    logits, offsets, labels, boxes, priors = _outputs(classes=3)
    found = detection_loss(logits, offsets, labels, boxes, priors, Criterion("iou", "multibox", "giou"))
    expected = 0.0
    for i, p in (labels > 0).nonzero().tolist():
        one, other = decode(offsets[i, p], priors[p]), boxes[i, p]
        iou = box_iou(one[None], other[None]).item()
        enclosing = (torch.maximum(one[2:], other[2:]) - torch.minimum(one[:2], other[:2])).prod().item()
        areas = (one[2:] - one[:2]).prod().item() + (other[2:] - other[:2]).prod().item()
        union = areas / (1 + iou)
        expected += 2 * (1 - iou + (enclosing - union) / enclosing)
    torch.testing.assert_close(found.box, torch.tensor(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("criterion", [Criterion("iou", *losses) for losses in product(("multibox", "focal", "quality"),
                                                                                     ("smooth_l1", "giou"))], ids="-".join)
def test_every_pair_of_losses_has_finite_gradients_without_objects_and_with_far_boxes(criterion: Criterion) -> None:
    logits, offsets, labels, boxes, priors = _outputs(classes=2 + (criterion.class_loss == "multibox"))
    labels[0] = 0
    offsets[1] *= 100
    logits.requires_grad_()
    offsets.requires_grad_()
    sums = detection_loss(logits, offsets, labels, boxes, priors, criterion)
    (sums.classification + sums.box).backward()
    assert logits.grad is not None
    assert offsets.grad is not None
    assert logits.grad.isfinite().all()
    assert offsets.grad.isfinite().all()
    assert logits.grad.abs().sum() > 0
    assert not offsets.grad[labels <= 0].any()
    assert not logits.grad[labels < 0].any()
    assert sums.positives == (labels[1] > 0).sum() + 1
