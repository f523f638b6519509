"""Names of nets as test parameters, with the slow ones marked."""

from collections.abc import Iterable
from typing import Any

import pytest

LARGE_NETS = ("vgg16-ssd", "resnet34-ssd", "resnet50-ssd")  # their last maps need 272 pixels
QUICK_NETS = ("mb2-ssd-lite", "mb2-fpn", "mb3-small-ssd-lite", "sq-ssd-lite")


def all_but_large(names: Iterable[str]) -> list[Any]:
    """Return parameters for all nets; LARGE_NETS are marked slow."""
    return [pytest.param(name, marks=pytest.mark.slow if name in LARGE_NETS else ()) for name in names]


def only_quick(names: Iterable[str]) -> list[Any]:
    """Return parameters for all nets; all but QUICK_NETS are marked slow."""
    return [pytest.param(name, marks=() if name in QUICK_NETS else pytest.mark.slow) for name in names]
