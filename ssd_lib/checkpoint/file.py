"""Combo checkpoints: all that a run needs to continue as if it had never stopped, in one file of plain values and tensors.

Which checkpoint a run continues from is decided in `ssd_lib.checkpoint.resume`; here is what one is and how it is written.
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
NO_COMMENT, SEAL = b"\0\0", b"\x40\0"  # how a zip file ends, and how one does that has 64 bytes of comment
LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"


@dataclass(frozen=True)
class ComboCheckpoint:
    """The state of a run between two steps.

    Attributes:
        fingerprint: of all that shapes the result; the same fingerprint means the same run.
        params: the groups `data`, `fix`, `model`, `train` as plain values.
        data_digest: SHA-256 of the bytes of data/fixed.
        spec: `NetSpec` as plain values.
        epoch: epochs that are complete, validation included.
        step: steps done in the epoch after those; when it is a whole epoch's, only the validation is missing.
        weights: state dict of the net.
        average: state dict of the averaged net; empty where there is none.
        optimizer, scaler: their state dicts; empty where they are not known or not used.
        totals: (3,) float64: this epoch's sums of the classification loss, the box loss, and the steps.
        best: the best metric so far, higher is better; None before the first.
        history: a row of plain values for each complete epoch.
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
        """(epoch, step): later is greater."""
        return self.epoch, self.step

    @property
    def final_weights(self) -> dict[str, Tensor]:
        """The state dict of the net that would become the model: the average's, where there is one."""
        averaged = {key.removeprefix("module."): value for key, value in self.average.items() if key.startswith("module.")}
        return averaged or self.weights


def read_checkpoint(path: Path) -> ComboCheckpoint:
    """Read a combo checkpoint onto the CPU, every byte checked. Nothing in it is unpickled but tensors and plain values.

    Raises:
        InputError: it is missing, torn, damaged, or no combo checkpoint.
    """
    try:
        content = torch.load(_sealed(path), map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or content.pop("format", None) != CHECKPOINT_FORMAT:
            raise ValueError(f"its format is not {CHECKPOINT_FORMAT!r}")
        return ComboCheckpoint(**content)
    except Exception as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else first_line(error)
        raise InputError(f"{path}: not a combo checkpoint of this project: {reason}.") from error


def save_checkpoint(checkpoint: ComboCheckpoint, folder: Path, journal: Path, *, is_best: bool) -> None:
    """Write `folder`/last.pt; the one before becomes previous.pt; the same files appear in `journal` as hard links.

    Guarantees: at every instant, whatever stops us, last.pt or previous.pt is whole, in the folder and in the journal; and best.pt is
    of the epoch whose metric stands in last.pt, or of a better one.

    Raises:
        StateError: the disk is full or the folder cannot be written; the checkpoints that were there are untouched.
    """
    last = folder / LAST
    with atomic_write(last) as file:
        torch.save({"format": CHECKPOINT_FORMAT, **_plain(checkpoint)}, file)
        _seal(file)
        if last.exists():
            link_or_copy(last, folder / PREVIOUS)
        if is_best:
            file.flush()
            os.fsync(file.fileno())
            link_or_copy(Path(file.name), folder / BEST)
    for name in (PREVIOUS, BEST, LAST):
        if (folder / name).exists():
            link_or_copy(folder / name, journal / name)


def _plain(checkpoint: ComboCheckpoint) -> dict[str, Any]:
    return {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}


def _seal(file: IO[bytes]) -> None:
    """Append the SHA-256 of a zip file to it, as its comment, which other readers pass over.

    The checksums in the archive are of its members alone: with one bit of a header changed torch reads memory that was never
    written, and says nothing.
    """
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # a file opened to read and write
    file.seek(-len(NO_COMMENT), io.SEEK_END)
    file.write(SEAL + digest.encode())


def _sealed(path: Path) -> io.BytesIO:
    """The content of a sealed file."""
    content = path.read_bytes()
    body, seal, digest = memoryview(content)[:-66], content[-66:-64], content[-64:]
    if seal != SEAL:
        raise ValueError("it has no checksum: it is torn, or of another kind (a finished model can be given as model.weights)")
    check = hashlib.sha256(body)
    check.update(NO_COMMENT)
    if check.hexdigest().encode() != digest:
        raise ValueError("it is damaged: its checksum is not that of its content")
    return io.BytesIO(content)
