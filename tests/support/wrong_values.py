"""Wrong values for every field of a file, and what a reader must answer."""

import math
import resource
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch

from ssd_lib.errors import InputError

MISSING = object()
WRONG: tuple[Any, ...] = (
    MISSING, None, True, "1", "text", "x" * 1_000_000, "\x1b[31m", "../../..", 1.5, -1, 0, 10**9, 2**70, math.nan, math.inf, [],
    {}, [1], ["1"],
    [None], {"a": 1}, {1: 2}, [math.nan] * 7, [[1]], torch.zeros(3), torch.zeros(1).expand(10**12), ["a"] * 30_000, b"x",
    (1, 2, 3))
LARGEST_MB = 600


def with_value(tree: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """Return a copy of a tree in which a field, given as "spec.net", is another value or is missing."""
    *parents, name = field.split("/")
    tree = deepcopy(tree)
    inner = tree
    for parent in parents:
        inner = inner[parent]
    inner.pop(name, None)
    if value is not MISSING:
        inner[name] = value
    return tree


def wrong_trees(tree: dict[str, Any], field: str, is_allowed: Callable[[Any], bool]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a label and a tree for each wrong value that the field must not have."""
    for value in WRONG:
        if not is_allowed(value):
            shown = ascii(value)[:40] if not torch.is_tensor(value) else ""
            label = "missing" if value is MISSING else f"{type(value).__name__} {shown}"
            yield f"{field}: {label}", with_value(tree, field, value)


def assert_refused(label: str, where: str, read: Callable[[], object]) -> str:
    """Check that a reader refuses in one line that names the file, without much memory; return the line."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        read()
    except InputError as error:
        message = str(error)
    else:
        pytest.fail(f"accepted: {label}")
    assert message.startswith(f"{where}: "), label
    assert "\n" not in message, label
    assert "\x1b" not in message, label
    assert len(message) < 1000, label
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < LARGEST_MB * 1024, label
    return message
