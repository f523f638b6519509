"""Combo checkpoints: everything that a run needs to continue as if it had never stopped, in one file of plain values and
tensors.

`ssd_lib.checkpoint.resume` chooses the one that a run continues from.
"""

import hashlib
import io
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Annotated, Any

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from ssd_lib.errors import InputError, first_line
from ssd_lib.files import atomic_write, link_or_copy, sha256_of_rest
from ssd_lib.nets.schema import StateDict, TensorField, check_spec, refuse_bomb
from ssd_lib.plain_values import PostprocessSchema, Strict, check, check_plain, plain, shown, shown_name

CHECKPOINT_FORMAT = "ssd-combo-1"
CHECKPOINTS = Path("models/checkpoints")
NO_COMMENT, SEAL = b"\0\0", b"\x40\0"  # the end of a zip file without a comment, and with a comment of 64 bytes
LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"


@dataclass(frozen=True)
class ComboCheckpoint:
    """The state of a run between two steps.

    Attributes:
        fingerprint: hash of everything that shapes the result; the same fingerprint means the same run.
        params: the groups `data`, `fix`, `model`, `train`, `postprocess` as plain values.
        data_digest: SHA-256 of the bytes of data/fixed.
        spec: `NetSpec` as plain values.
        epoch: complete epochs, validation included.
        step: steps done in the next epoch; after its last step, only its validation is missing.
        weights: state dict of the net.
        average: state dict of the averaged net; empty without averaging.
        optimizer, scaler: their state dicts; empty if unknown or unused.
        totals: (3,) float64: this epoch's sums of the classification loss, the box loss, and the steps.
        best: the best metric so far, higher is better; None before the first.
        history: one dict of plain values per complete epoch.
        versions: of the libraries that wrote it.
        threads: with which each process computes on a CPU; 0 if unknown, as in older checkpoints.
        micro_batch: the most images at once that `train.micro_batch: auto` has found to fit in memory; 0 is no limit.
    """

    fingerprint: str
    params: dict[str, Any]
    data_digest: str
    spec: dict[str, Any]
    epoch: int
    step: int
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    totals: Tensor
    best: float | None
    history: list[dict[str, Any]]
    versions: dict[str, str]
    threads: int = 0
    micro_batch: int = 0

    @property
    def position(self) -> tuple[int, int]:
        """Return (epoch, step); a later position is greater."""
        return self.epoch, self.step

    @property
    def final_weights(self) -> dict[str, Tensor]:
        """Return the state dict that would become the model: that of the average if there is one."""
        averaged = {key.removeprefix("module."): value for key, value in self.average.items() if key.startswith("module.")}
        return averaged or self.weights


def read_checkpoint(path: Path) -> ComboCheckpoint:
    """Read a combo checkpoint onto the CPU and check every byte. Only tensors and plain values are unpickled.

    Raises:
        InputError: it is missing, truncated, damaged, or not a combo checkpoint.
    """
    try:
        file = _read_sealed(path)
        refuse_bomb(file, str(path))
        file.seek(0)
        content = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or content.pop("format", None) != CHECKPOINT_FORMAT:
            raise ValueError(f"its format is not {CHECKPOINT_FORMAT!r}")
        if unknown := sorted(map(shown_name, content.keys() - CheckpointSchema.model_fields.keys())):
            raise ValueError(f"it holds {unknown[0]}, which this version of the project does not know")
        _check_content(content, path)
        return ComboCheckpoint(**content)
    except InputError:
        raise
    except Exception as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else first_line(error)
        raise InputError(f"{path}: not a combo checkpoint of this project: {reason}.") from error


class TrainSchema(Strict):
    """The keys of `params.train` that are used when a checkpoint is read."""

    epochs: Annotated[int, Field(ge=1, lt=2**31)]
    batch_size: Annotated[int, Field(ge=1)] = 1
    optimizer: str = ""
    ap_every_epochs: Annotated[int, Field(ge=0)] = 0


class OptimizerSchema(Strict):
    """The state dict of an optimizer; what it holds for each parameter is checked when it is restored."""

    state: dict[int, dict[str, TensorField | float | None]] = Field(default_factory=dict)
    param_groups: list[dict[str, Any]] = Field(default_factory=list)


class CheckpointSchema(Strict):
    """The types of ComboCheckpoint. The fingerprint becomes the name of a folder."""

    fingerprint: Annotated[str, Field(pattern=r"\A[0-9a-f]{16}\z")]
    params: dict[str, dict[str, Any]]
    data_digest: Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]
    spec: dict[str, Any]
    epoch: Annotated[int, Field(ge=0, lt=2**31)]
    step: Annotated[int, Field(ge=0, lt=2**31)]
    weights: StateDict
    average: StateDict
    optimizer: dict[str, Any]
    scaler: Annotated[dict[str, Any], AfterValidator(plain)]
    totals: TensorField
    best: float | None
    history: list[dict[str, Annotated[float, Field(allow_inf_nan=True)] | None]]
    versions: dict[str, str]
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    micro_batch: Annotated[int, Field(ge=0, lt=2**31)] = 0


def _check_content(content: dict[str, Any], path: Path) -> None:
    """Raise InputError unless all values have the types and limits of ComboCheckpoint."""
    checked = check(CheckpointSchema, content, str(path))
    check_spec(checked.spec, f"{path}: spec")
    check_plain(checked.params, f"{path}: params")
    train = check(TrainSchema, checked.params.get("train"), f"{path}: params.train")
    check(OptimizerSchema, checked.optimizer, f"{path}: optimizer")
    check(PostprocessSchema, checked.params.get("postprocess", {}), f"{path}: params.postprocess")
    faults = [
        (checked.epoch > train.epochs,
         f"epoch: found {checked.epoch}; at most params.train.epochs, {train.epochs}, is allowed"),
        (checked.epoch == train.epochs and checked.step > 0, f"step: found {checked.step}; 0 is allowed after the last epoch"),
        (checked.totals.shape != (3,) or not checked.totals.is_floating_point() or not checked.totals.isfinite().all(),
         f"totals: found {shown(checked.totals)}; 3 finite numbers are allowed"),
    ]
    for is_wrong, fault in faults:
        if is_wrong:
            raise InputError(f"{path}: {fault}. Use another file.")


def save_checkpoint(checkpoint: ComboCheckpoint, folder: Path, resume_dir: Path, *, is_best: bool) -> None:
    """Write `folder`/last.pt and move the one before to previous.pt; hard-link the same files into `resume_dir`.

    Guarantees: at every instant, whatever stops the process, last.pt or previous.pt is intact in both folders; and best.pt is
    of the epoch whose metric last.pt holds as the best, or of a better one.

    Raises:
        StateError: the disk is full or the folder is not writable; the checkpoints that were there are unchanged.
    """
    last = folder / LAST
    with atomic_write(last) as file:
        values = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
        torch.save({"format": CHECKPOINT_FORMAT, **values}, file)
        _seal(file)
        if last.exists():
            link_or_copy(last, folder / PREVIOUS)
        if is_best:
            file.flush()
            os.fsync(file.fileno())
            link_or_copy(Path(file.name), folder / BEST)
    for name in (PREVIOUS, BEST, LAST):
        if (folder / name).exists():
            link_or_copy(folder / name, resume_dir / name)


def _seal(file: IO[bytes]) -> None:
    """Append the SHA-256 of a zip file to it, as its comment, which other readers skip.

    The checksums in the archive cover its members only: if one bit of a header changes, torch reads uninitialised memory
    without an error.
    """
    file.seek(0)
    digest = sha256_of_rest(file)
    file.seek(-len(NO_COMMENT), io.SEEK_END)
    file.write(SEAL + digest.encode())


def _read_sealed(path: Path) -> io.BytesIO:
    """Return the content of a sealed file, or raise ValueError."""
    if path.exists() and not path.is_file():
        raise ValueError("it is a folder" if path.is_dir() else "it is not a regular file")
    content = path.read_bytes()
    body, seal, digest = memoryview(content)[:-66], content[-66:-64], content[-64:]
    if seal != SEAL:
        raise ValueError("it has no checksum: it is truncated, or another kind of file (a finished model can be used as "
                         "model.weights)")
    check = hashlib.sha256(body)
    check.update(NO_COMMENT)
    if check.hexdigest().encode() != digest:
        raise ValueError("it is damaged: its checksum does not match its content")
    return io.BytesIO(content)
