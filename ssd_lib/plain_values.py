"""Check plain values that a file holds, such as the metadata of a model: types and limits, and how a message shows a wrong one.

A file is data of unknown origin. Values are checked strictly (a number as text is refused), and within limits. torch is not
imported, so that an exported detector runs without it; the checks of tensors are in nets/schema.py.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ssd_lib.errors import InputError

MAX_NAME = 1000  # characters of the name of a class, or of a key
MAX_VALUES, MAX_DEPTH = 100_000, 20  # of plain values, such as parameters
SHOWN = 60  # characters of a wrong value in a message


def deep_range(value: Any) -> tuple[int, int]:
    """Return the range of 16-bit images, see `images.decode_image`, that a pair of numbers means; else raise ValueError."""
    is_pair = isinstance(value, list | tuple) and len(value) == 2 and all(type(one) is int for one in value)
    if not is_pair or not 0 <= value[0] < value[1] <= 65535:
        raise ValueError("two whole numbers are needed, 0 <= low < high <= 65535")
    return value[0], value[1]


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return a list or a tuple, which JSON does not tell apart, as a tuple; else raise ValueError."""
    if not isinstance(value, list | tuple) or len(value) > MAX_VALUES:
        raise ValueError(f"a list of at most {MAX_VALUES} values is needed")
    return tuple(value)


Schema = TypeVar("Schema", bound=BaseModel)
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
Id = Annotated[int, Field(ge=-2**63, lt=2**63)]
Unit = Annotated[float, Field(ge=0, le=1)]
Limit = Annotated[int, Field(ge=1, lt=2**31)]
MOST_TILES = 64  # of an image
TileCount = Annotated[int, Field(ge=0, le=MOST_TILES)] | Literal["auto"]
Units = Annotated[tuple[Unit, ...], BeforeValidator(as_tuple)]
DeepRange = Annotated[tuple[int, int], BeforeValidator(deep_range)]
MAY_BE_ABSENT: Any = None  # after a field: its key is optional; this is no default, as only the keys that are there are used


class Strict(BaseModel):
    """A part of a file. Values are never converted; further keys are ignored, as a later version may write more."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, arbitrary_types_allowed=True)


class PostprocessSchema(Strict):
    """The allowed values of `Postprocess`; a file may lack some, and its reader takes the defaults in boxes/selection.py."""

    score_threshold: Unit = MAY_BE_ABSENT
    nms_iou: Unit = MAY_BE_ABSENT
    top_k_per_class: Limit = MAY_BE_ABSENT
    max_detections: Limit = MAY_BE_ABSENT
    class_thresholds: Units = MAY_BE_ABSENT
    tiles: TileCount = MAY_BE_ABSENT
    vote_iou: Unit = MAY_BE_ABSENT


def plain(value: Any) -> Any:
    """Refuse what is not a plain value, or too much of it; count shared parts as often as they are used."""
    left, count = [(value, 0)], 0
    while left:
        item, depth = left.pop()
        count += 1
        if count > MAX_VALUES or depth > MAX_DEPTH:
            raise ValueError(f"at most {MAX_VALUES} values in {MAX_DEPTH} levels are allowed")
        if type(item) is dict:
            if not all(type(key) is str and len(key) <= MAX_NAME for key in item):
                raise ValueError("keys must be text")
            children: Iterable[Any] = item.values()
        elif type(item) in (list, tuple):
            children = item
        elif item is None or type(item) in (bool, int, float, str):
            children = ()
        else:
            raise ValueError(f"plain values are needed, not a {type(item).__name__}")
        left += [(child, depth + 1) for child in children]
        if len(left) > MAX_VALUES:
            raise ValueError(f"at most {MAX_VALUES} values in {MAX_DEPTH} levels are allowed")
    return value


def check(schema: type[Schema], values: Any, where: str) -> Schema:
    """Return the values of a file as `schema`.

    Args:
        schema: what is allowed.
        values: what torch or JSON read.
        where: the file, and the field of it that holds the values, for the message.

    Raises:
        InputError: a value is missing or not allowed; the message names the field, what was found and what is allowed.
    """
    hint = "Use the version of this project that wrote it, or another file."
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: found {shown(values)}; a dict is needed. {hint}")
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(shown_name(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "missing":
            raise InputError(f"{where}: lacks {field}; it is damaged or from another version of this project. {hint}") from None
        raise InputError(f"{where}: {field}: found {shown(fault['input'])}; {message[:1].lower()}{message[1:]:.300}. "
                         f"{hint}") from None


def check_plain(values: Any, where: str) -> None:
    """Raise InputError unless `values` are plain.

    Text, numbers, True, False, None, and lists and dicts of these, within limits.
    """
    try:
        plain(values)
    except ValueError as error:
        raise InputError(f"{where}: found {shown(values)}; {error}. Use the version of this project that wrote it, or another "
                         "file.") from None


def shown(value: Any) -> str:
    """Return a short form of any value for a message, on one line and without control characters."""
    if type(value).__name__ == "Tensor":  # torch's, which is not imported here
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, Mapping | list | tuple | set):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, str):
        return ascii(value) if len(value) <= SHOWN else f"text of {len(value)} characters"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number of more than 60 digits"
    return ascii(value) if isinstance(value, bool | int | float | None) else f"a {type(value).__name__}"


def shown_name(part: Any) -> str:
    """Return a key or an index for a message."""
    return ascii(part)[1:-1][:SHOWN] if isinstance(part, str) else shown(part)
