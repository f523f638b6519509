"""Checks of what a model file or a checkpoint holds: the net and its tensors, before anything is built from it.

Its plain values are checked as plain_values.py does it. No file makes the program allocate much more than its own size.
"""

import pickle
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Annotated, Any

import torch
from pydantic import AfterValidator, BeforeValidator, Field
from torch import Tensor

from ssd_lib.errors import InputError
from ssd_lib.images import FULL_RANGE
from ssd_lib.manifest import MAX_CLASSES
from ssd_lib.nets.ssd import Scores
from ssd_lib.nets.zoo import NETS
from ssd_lib.plain_values import DeepRange, Id, Name, Strict, check, plain, shown_name

STORAGE_BYTES = {"DoubleStorage": 8, "LongStorage": 8, "ComplexFloatStorage": 8, "ComplexDoubleStorage": 16, "FloatStorage": 4,
                 "IntStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "ShortStorage": 2}  # the others: 1


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


def _whole_tensor(value: Any) -> Any:
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
        raise ValueError("a dense tensor is needed")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise ValueError(f"a tensor of shape {tuple(value.shape)} that repeats fewer stored values")
    return value


TensorField = Annotated[Any, AfterValidator(_whole_tensor)]
Size = Annotated[float, Field(gt=0, le=10)]
StateDict = dict[str, TensorField]


class SpecSchema(Strict):
    """`NetSpec` as plain values."""

    net: Annotated[str, BeforeValidator(_known_net)]
    image_size: Annotated[int, Field(ge=32, le=1024)]
    width_mult: Annotated[float, Field(ge=0.1, le=4)]
    class_names: Annotated[list[Name], BeforeValidator(_listed), Field(min_length=1, max_length=MAX_CLASSES)]
    source_ids: Annotated[list[Id], BeforeValidator(_listed), Field(max_length=MAX_CLASSES)]
    prior_sizes: Annotated[list[Size], BeforeValidator(_listed), Field(max_length=20, default_factory=list)]
    mean: Annotated[list[float], BeforeValidator(_listed), Field(max_length=3, default_factory=list)]
    std: Annotated[list[Annotated[float, Field(gt=0)]], BeforeValidator(_listed), Field(max_length=3, default_factory=list)]
    priors: Annotated[int, Field(ge=1)] = 1
    scores: Scores = "softmax"
    sixteen_bit_range: DeepRange = FULL_RANGE

    def fault(self) -> str:
        """Return what is wrong with the values together; "" if nothing is."""
        if len(self.source_ids) != len(self.class_names):
            return (f"source_ids: found {len(self.source_ids)} ids; one for each of the {len(self.class_names)} class_names is "
                    "needed")
        levels = len(NETS[self.net].priors)
        if self.prior_sizes and len(self.prior_sizes) != levels + 1:
            return f"prior_sizes: found {len(self.prior_sizes)} sizes; {self.net} needs none or {levels + 1}"
        return ""


class ModelSchema(Strict):
    """The content of models/ssd.pt; `spec` and `postprocess` are checked by their own schemas."""

    spec: dict[str, Any]
    weights: StateDict
    about: Annotated[dict[str, Any], AfterValidator(plain), Field(default_factory=dict)]
    postprocess: Annotated[dict[str, Any], Field(default_factory=dict)]


def check_spec(values: Any, where: str) -> SpecSchema:
    """Return the checked values of a `NetSpec`, or raise InputError; see `check`."""
    spec = check(SpecSchema, values, where)
    if fault := spec.fault():
        raise InputError(f"{where}: {fault}. Use the version of this project that wrote it, or another file.")
    return spec


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
