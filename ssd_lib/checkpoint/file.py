"""Combo checkpoints: everything that a run needs to continue as if it had never stopped, in one file of plain values and tensors.

`ssd_lib.checkpoint.resume` chooses the one that a run continues from.
"""

import hashlib
import io
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from ssd_lib.errors import InputError, first_line
from ssd_lib.files import atomic_write, link_or_copy

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
        content = torch.load(_read_sealed(path), map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or content.pop("format", None) != CHECKPOINT_FORMAT:
            raise ValueError(f"its format is not {CHECKPOINT_FORMAT!r}")
        return ComboCheckpoint(**content)
    except Exception as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else first_line(error)
        raise InputError(f"{path}: not a combo checkpoint of this project: {reason}.") from error


def save_checkpoint(checkpoint: ComboCheckpoint, folder: Path, resume_dir: Path, *, is_best: bool) -> None:
    """Write `folder`/last.pt and move the one before to previous.pt; hard-link the same files into `resume_dir`.

    Guarantees: at every instant, whatever stops the process, last.pt or previous.pt is intact in both folders; and best.pt is of the
    epoch whose metric last.pt holds as the best, or of a better one.

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

    The checksums in the archive cover its members only: if one bit of a header changes, torch reads uninitialised memory without
    an error.
    """
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # a file opened to read and write
    file.seek(-len(NO_COMMENT), io.SEEK_END)
    file.write(SEAL + digest.encode())


def _read_sealed(path: Path) -> io.BytesIO:
    """Return the content of a sealed file, or raise ValueError."""
    content = path.read_bytes()
    body, seal, digest = memoryview(content)[:-66], content[-66:-64], content[-64:]
    if seal != SEAL:
        raise ValueError("it has no checksum: it is truncated, or another kind of file (a finished model can be used as model.weights)")
    check = hashlib.sha256(body)
    check.update(NO_COMMENT)
    if check.hexdigest().encode() != digest:
        raise ValueError("it is damaged: its checksum does not match its content")
    return io.BytesIO(content)
