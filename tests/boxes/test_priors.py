"""Priors: layout, and values of the published nets."""

from math import sqrt

import pytest
import torch

from ssd_lib.boxes.prior_levels import PriorLevel
from ssd_lib.boxes.priors import make_priors
from ssd_lib.nets.zoo import NETS

MOBILE_MAPS = [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]


def test_mobile_nets_have_3000_priors_at_300_px() -> None:
    assert make_priors(NETS["mb2-ssd-lite"].priors, MOBILE_MAPS, 300).shape == (3000, 4)


def test_the_first_cell_has_the_shapes_of_the_paper() -> None:
    priors = make_priors(NETS["mb2-ssd-lite"].priors, MOBILE_MAPS, 300)
    centre, small, large = 0.5 / (300 / 16), 60 / 300, sqrt(60 * 105) / 300
    expected = [
        (centre, centre, small, small),
        (centre, centre, large, large),
        (centre, centre, small * sqrt(2), small / sqrt(2)),
        (centre, centre, small / sqrt(2), small * sqrt(2)),
        (centre, centre, small * sqrt(3), small / sqrt(3)),
        (centre, centre, small / sqrt(3), small * sqrt(3)),
    ]
    torch.testing.assert_close(priors[:6], torch.tensor(expected))


def test_the_column_changes_faster_than_the_row() -> None:
    priors = make_priors([PriorLevel(None, 0.5, 0.5, ())], [(2, 3)], 300)
    torch.testing.assert_close(priors[::2, 0], torch.tensor([1, 3, 5, 1, 3, 5]) / 6)
    torch.testing.assert_close(priors[::2, 1], torch.tensor([1, 1, 1, 3, 3, 3]) / 4)


def test_priors_stay_in_the_unit_square() -> None:
    priors = make_priors(NETS["mb2-ssd-lite"].priors, MOBILE_MAPS, 300)
    assert priors.min() >= 0
    assert priors.max() <= 1


def test_a_missing_map_size_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        make_priors(NETS["mb2-ssd-lite"].priors, MOBILE_MAPS[:-1], 300)
