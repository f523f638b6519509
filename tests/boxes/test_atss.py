"""ATSS beside a plain computation of the paper's algorithm, object by object."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from ssd_lib.boxes.atss import NEAREST, match_by_atss
from ssd_lib.boxes.prior_levels import PriorLevel
from ssd_lib.boxes.priors import make_priors

MAPS = ((20, 20), (10, 10), (5, 5))
PER_LEVEL = [height * width for height, width in MAPS]
LEVELS = [PriorLevel(stride, 4 * stride / 160, 8 * stride / 160, (), is_single=True) for stride in (8, 16, 32)]


def priors_xyxy() -> Tensor:
    cxcywh = make_priors(LEVELS, MAPS, 160)
    return torch.cat([cxcywh[:, :2] - cxcywh[:, 2:] / 2, cxcywh[:, :2] + cxcywh[:, 2:] / 2], dim=1)


def positives_of(box: Tensor, priors: Tensor) -> set[int]:
    """Return the positive priors of one object, as algorithm 1 of the paper has them, and the best candidate."""
    centres, candidates, offset = (priors[:, :2] + priors[:, 2:]) / 2, [], 0
    distances = (centres - (box[:2] + box[2:]) / 2).norm(dim=1)
    for count in PER_LEVEL:
        nearest = distances[offset:offset + count].argsort(stable=True)[:NEAREST] + offset
        candidates += nearest.tolist()
        offset += count
    iou = box_iou(box[None], priors[candidates])[0]
    threshold = iou.mean() + iou.std()
    inside = ((centres[candidates] > box[:2]) & (centres[candidates] < box[2:])).all(dim=1)
    found = {candidate for candidate, value, is_in in zip(candidates, iou, inside, strict=True) if value >= threshold and is_in}
    return found | {candidates[int(iou.argmax())]}


@pytest.mark.parametrize("box", [
    (0.111, 0.127, 0.432, 0.389), (0.521, 0.612, 0.533, 0.618), (0.013, 0.021, 0.981, 0.993), (0.3, 0.1, 0.36, 0.81)],
    ids=["middle", "smaller than a cell", "nearly the whole image", "tall"])
def test_the_positives_of_one_object_are_those_of_the_paper(box: tuple[float, ...]) -> None:
    priors, boxes = priors_xyxy(), torch.tensor([[box]])
    matched = match_by_atss(boxes, torch.tensor([[2]]), priors, PER_LEVEL)
    assert set((matched[0] == 0).nonzero().flatten().tolist()) == positives_of(boxes[0, 0], priors)


def test_objects_of_all_sizes_have_a_prior_and_padding_has_none() -> None:
    rng = torch.Generator().manual_seed(0)
    corners, sides = torch.rand(6, 12, 2, generator=rng) * 0.8, torch.rand(6, 12, 2, generator=rng) ** 3 * 0.2 + 0.003
    boxes, labels = torch.cat([corners, corners + sides], dim=2), torch.ones(6, 12, dtype=torch.int64)
    labels[:, 9:] = 0
    matched = match_by_atss(boxes, labels, priors_xyxy(), PER_LEVEL)
    for row in matched:
        assert set(row.tolist()) == {-1, *range(9)}


def test_a_prior_of_two_objects_goes_to_the_better_one() -> None:
    """The inner object has the higher IoU with the priors of its size."""
    inner, outer = [0.4, 0.4, 0.6, 0.6], [0.35, 0.35, 0.7, 0.7]
    priors = priors_xyxy()
    matched = match_by_atss(torch.tensor([[outer, inner]]), torch.tensor([[1, 1]]), priors, PER_LEVEL)[0]
    iou = box_iou(torch.tensor([outer, inner]), priors)
    claimed = (matched >= 0).nonzero().flatten()
    best = iou.argmax(dim=1).tolist()
    assert matched[best].tolist() == [0, 1]
    assert all(matched[i] == iou[:, i].argmax() for i in claimed.tolist() if i not in best
               if {i} <= positives_of(torch.tensor(inner), priors) & positives_of(torch.tensor(outer), priors))


def test_an_image_alone_has_the_same_positives_as_in_a_batch() -> None:
    rng = torch.Generator().manual_seed(1)
    corners = torch.rand(3, 4, 2, generator=rng) * 0.6
    boxes, labels = torch.cat([corners, corners + 0.3], dim=2), torch.ones(3, 4, dtype=torch.int64)
    together = match_by_atss(boxes, labels, priors_xyxy(), PER_LEVEL)
    for i in range(3):
        assert torch.equal(match_by_atss(boxes[i:i + 1], labels[i:i + 1], priors_xyxy(), PER_LEVEL)[0], together[i])
