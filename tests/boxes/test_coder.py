"""Box encoding: decode is the inverse of encode; values worked out by hand."""

from math import log

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ssd_lib.boxes.coder import decode, encode

sides = st.floats(0.02, 1)
centres = st.floats(0, 1)


@st.composite
def boxes_cxcywh(draw: st.DrawFn) -> Tensor:
    count = 4
    return torch.tensor([[draw(centres), draw(centres), draw(sides), draw(sides)] for _ in range(count)])


@given(boxes_cxcywh(), boxes_cxcywh())
def test_encode_then_decode_is_identity(priors: Tensor, target: Tensor) -> None:
    boxes = torch.cat([target[:, :2] - target[:, 2:] / 2, target[:, :2] + target[:, 2:] / 2], dim=1)
    torch.testing.assert_close(decode(encode(boxes, priors), priors), boxes, atol=1e-4, rtol=0)


def test_the_box_of_the_prior_itself_has_zero_offsets() -> None:
    prior = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    torch.testing.assert_close(encode(torch.tensor([[0.4, 0.3, 0.6, 0.7]]), prior), torch.zeros(1, 4))


def test_offsets_by_hand() -> None:
    prior = torch.tensor([[0.5, 0.5, 0.2, 0.2]])
    box = torch.tensor([[0.4, 0.42, 0.8, 0.62]])  # centre (0.6, 0.52), sides 0.4 and 0.2
    expected = torch.tensor([[0.1 / 0.2 / 0.1, 0.02 / 0.2 / 0.1, log(2) / 0.2, 0.0]])
    torch.testing.assert_close(encode(box, prior), expected, atol=1e-5, rtol=0)


def test_an_empty_box_has_finite_offsets() -> None:
    assert encode(torch.tensor([[0.5, 0.5, 0.5, 0.5]]), torch.tensor([[0.5, 0.5, 0.2, 0.2]])).isfinite().all()


def test_absurd_offsets_decode_to_finite_boxes() -> None:
    assert decode(torch.full((1, 4), 1e4), torch.tensor([[0.5, 0.5, 0.2, 0.2]])).isfinite().all()
