"""Say what is wrong in params.yaml: pydantic's errors in sentences for people."""

import difflib
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails


def sentences(faults: Sequence[ErrorDetails], model: type[BaseModel]) -> list[str]:
    """Return pydantic's errors as lines of a message, each with its place; those of the members of a union are one.

    Args:
        faults: what pydantic found.
        model: the model that it checked, which has the known keys.
    """
    lines: dict[str, tuple[list[str], str]] = {}
    for fault in faults:
        place = [str(part) for part in fault["loc"]]
        dotted = ".".join(place[:2]) if "auto" in place[-1] or "constrained" in place[-1] else ".".join(place)
        head, should_be, rest = _sentence(fault, place, dotted, model).partition(" should be ")
        allowed, found, value = rest.partition(", found ")
        lines.setdefault(head + should_be, ([], found + value))[0].append(allowed.split(", unable to")[0])
    return [head + " or ".join(allowed) + found for head, (allowed, found) in lines.items()]


def _sentence(fault: ErrorDetails, place: list[str], dotted: str, model: type[BaseModel]) -> str:
    """Return one of pydantic's errors as a line of the message."""
    if fault["type"] == "extra_forbidden":
        known = _known_keys(model, place[:-1])
        near = difflib.get_close_matches(place[-1], known, n=1)
        return f"unknown key '{dotted}'; " + (f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}")
    if fault["type"] == "missing":
        return f"missing key '{dotted}'; `git show HEAD:params.yaml` shows it with its comment"
    if fault["type"] == "value_error":
        return f"{dotted}: {fault['msg'].removeprefix('Value error, ')}"
    hint = f"; write [{fault['input']}]" if fault["type"] == "list_type" and isinstance(fault["input"], str) else ""
    return f"{dotted}: {fault['msg'][0].lower()}{fault['msg'][1:]}, found {fault['input']!r}{hint}"


def _known_keys(model: Any, place: list[str]) -> list[str]:
    for part in place:
        model = model.model_fields[part].annotation
    return list(model.model_fields)
