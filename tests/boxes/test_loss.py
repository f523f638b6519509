"""Multibox loss: values worked out by hand."""

from math import log

import torch
import torch.nn.functional as F

from ssd_lib.boxes.loss import multibox_loss


def _loss(logits: list, labels: list, offsets: list | None = None, targets: list | None = None):
    logits_t, labels_t = torch.tensor(logits, dtype=torch.float32), torch.tensor(labels)
    zeros = torch.zeros(*labels_t.shape, 4)
    return multibox_loss(logits_t, zeros if offsets is None else torch.tensor(offsets), labels_t,
                         zeros if targets is None else torch.tensor(targets))


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
