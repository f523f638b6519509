"""Checks of what a model file or a checkpoint holds: types, limits and tensors, before anything is built from it.

A file is data of unknown origin. Values are checked strictly (a number as text is refused), and within limits, so that no file
makes the program allocate much more than its own size.
"""

import pickle
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Annotated, Any, TypeVar

import torch
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from torch import Tensor

from ssd_lib.errors import InputError
from ssd_lib.manifest import MAX_CLASSES, MAX_NAME
from ssd_lib.nets.zoo import NETS

MAX_VALUES, MAX_DEPTH = 100_000, 20  # of plain values, such as parameters
SHOWN = 60  # characters of a wrong value in a message
STORAGE_BYTES = {"DoubleStorage": 8, "LongStorage": 8, "ComplexFloatStorage": 8, "ComplexDoubleStorage": 16, "FloatStorage": 4,
                 "IntStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "ShortStorage": 2}  # the others: 1
Schema = TypeVar("Schema", bound=BaseModel)


def _listed(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError("a list is needed")
    if len(value) > MAX_CLASSES:  # before pydantic collects an error for each
        raise ValueError(f"at most {MAX_CLASSES} values are allowed")
    return list(value)


def _known_net(value: Any) -> Any:
    if not isinstance(value, str) or value not in NETS:
        raise ValueError(f"known are {', '.join(NETS)}")
    return value


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


def _whole_tensor(value: Any) -> Any:
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
        raise ValueError("a dense tensor is needed")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise ValueError(f"a tensor of shape {tuple(value.shape)} that repeats fewer stored values")
    return value


TensorField = Annotated[Any, AfterValidator(_whole_tensor)]
Size = Annotated[float, Field(gt=0, le=10)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
Id = Annotated[int, Field(ge=-2**63, lt=2**63)]
Unit = Annotated[float, Field(ge=0, le=1)]
Limit = Annotated[int, Field(ge=1, lt=2**31)]
StateDict = dict[str, TensorField]


class Strict(BaseModel):
    """A part of a file. Values are never converted; further keys are ignored, as a later version may write more."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, arbitrary_types_allowed=True)


class SpecSchema(Strict):
    """`NetSpec` as plain values."""

    net: Annotated[str, BeforeValidator(_known_net)]
    image_size: Annotated[int, Field(ge=32, le=1024)]
    width_mult: Annotated[float, Field(ge=0.1, le=4)]
    class_names: Annotated[list[Name], BeforeValidator(_listed), Field(min_length=1, max_length=MAX_CLASSES)]
    source_ids: Annotated[list[Id], BeforeValidator(_listed), Field(max_length=MAX_CLASSES)]
    prior_sizes: Annotated[list[Size], BeforeValidator(_listed), Field(max_length=20)] = []
    mean: Annotated[list[float], BeforeValidator(_listed), Field(max_length=3)] = []
    std: Annotated[list[Annotated[float, Field(gt=0)]], BeforeValidator(_listed), Field(max_length=3)] = []
    priors: Annotated[int, Field(ge=1)] = 1

    def fault(self) -> str:
        """Return what is wrong with the values together; "" if nothing is."""
        if len(self.source_ids) != len(self.class_names):
            return (f"source_ids: found {len(self.source_ids)} ids; one for each of the {len(self.class_names)} class_names is "
                    "needed")
        levels = len(NETS[self.net].priors)
        if self.prior_sizes and len(self.prior_sizes) != levels + 1:
            return f"prior_sizes: found {len(self.prior_sizes)} sizes; {self.net} needs none or {levels + 1}"
        return ""


class PostprocessSchema(Strict):
    """`Postprocess` as plain values; a file may lack some."""

    score_threshold: Unit = 0.0
    nms_iou: Unit = 0.0
    top_k_per_class: Limit = 1
    max_detections: Limit = 1


class ModelSchema(Strict):
    """The content of models/ssd.pt; `spec` and `postprocess` are checked by their own schemas."""

    spec: dict[str, Any]
    weights: StateDict
    about: Annotated[dict[str, Any], AfterValidator(plain)] = {}
    postprocess: dict[str, Any] = {}


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


def check_spec(values: Any, where: str) -> SpecSchema:
    """Return the checked values of a `NetSpec`, or raise InputError; see `check`."""
    spec = check(SpecSchema, values, where)
    if fault := spec.fault():
        raise InputError(f"{where}: {fault}. Use the version of this project that wrote it, or another file.")
    return spec


def check_plain(values: Any, where: str) -> None:
    """Raise InputError unless `values` are plain.

    Text, numbers, True, False, None, and lists and dicts of these, within limits.
    """
    try:
        plain(values)
    except ValueError as error:
        raise InputError(f"{where}: found {shown(values)}; {error}. Use the version of this project that wrote it, or another "
                         f"file."
                         ) from None


def shown(value: Any) -> str:
    """Return a short form of any value for a message, on one line and without control characters."""
    if isinstance(value, Tensor):
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


def refuse_bomb(file: Path | IO[bytes], where: str) -> None:
    """Refuse a file of torch in zip form that claims more bytes than it has, before torch reads it.

    torch.save never compresses; a storage that claims more than its entry holds would let torch read memory of others.

    Raises:
        InputError: an entry is compressed, or a storage claims more bytes than the file holds.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            fault = next((f"its entry {shown_name(name)} is compressed" for name, entry in entries.items()
                          if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size), "")
            pickles = [] if fault else [name for name in entries if name.endswith("/data.pkl")]
            claims = [claim for name in pickles for claim in _storage_claims(archive, name)]
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError, ValueError):
        return  # not a zip file, or a damaged one: torch says what is wrong
    for name, claimed in claims:
        if name in entries and claimed > entries[name].file_size:
            fault = f"a tensor claims {claimed} bytes and its entry {shown_name(name)} holds {entries[name].file_size}"
    if fault:
        raise InputError(f"{where}: not a file that torch saved: {fault}. Use another file.")


class _Claims(pickle.Unpickler):
    """Collect the storages that a pickle names. Nothing is executed: every global name is an inert class."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.found: list[tuple[str, str, int]] = []

    def find_class(self, module: str, name: str) -> Any:
        return type(name, (_Inert,), {})

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) == 5 and isinstance(pid[1], type) and type(pid[4]) is int:
            self.found.append((pid[1].__name__, str(pid[2]), pid[4]))
        return None


class _Inert(dict[Any, Any]):
    """A placeholder for any object; does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass


def _storage_claims(archive: zipfile.ZipFile, name: str) -> list[tuple[str, int]]:
    """Return the entries of a zip file that hold storages, and the bytes that its pickle says they have."""
    with archive.open(name) as file:
        claims = _Claims(file)
        with suppress(Exception):  # a crafted pickle can raise anything; torch reports what is wrong with it
            claims.load()
    folder = name.removesuffix("data.pkl")
    return [(f"{folder}data/{key}", numel * STORAGE_BYTES.get(kind, 1)) for kind, key, numel in claims.found]


def misfit(tensors: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> str:
    """Return why tensors are not those of a net with the shapes `wanted`; "" if they are."""
    if differing := sorted(tensors.keys() ^ wanted.keys()):
        return f"{'lacks' if differing[0] in wanted else 'unknown'} {shown_name(differing[0])}"
    return next((f"{key} has shape {tuple(tensors[key].shape)}, not {shape}" for key, shape in wanted.items()
                 if tensors[key].shape != shape), "")
