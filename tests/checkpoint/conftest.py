"""A small checkpoint, and the folders it goes to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from ssd_lib.checkpoint.file import ComboCheckpoint, save_checkpoint

Make = Callable[..., ComboCheckpoint]


class Places(NamedTuple):
    """models/checkpoints and runs/resume/<fingerprint>."""

    folder: Path
    resume_dir: Path

    def save(self, checkpoint: ComboCheckpoint, is_best: bool = False) -> None:
        """Save in both."""
        save_checkpoint(checkpoint, self.folder, self.resume_dir, is_best=is_best)


def run_params(model: dict[str, Any] | None = None, data: dict[str, Any] | None = None,
               **train: Any) -> dict[str, dict[str, Any]]:
    """Return the parameters of a run, with some of them changed."""
    return {"data": {"balance": "none", "balance_threshold": "auto", "cache": "none", **(data or {})}, "fix": {},
            "model": {"image_size": 64, "weights": "none", "backbone_weights": "none", **(model or {})},
            "train": {"epochs": 5, "lr": 0.01, "resume": "auto", "batch_size": 4, "optimizer": "adam", "freeze": "none",
                      **train}}


@pytest.fixture
def make() -> Make:
    """Return a factory of checkpoints at a position, whose tensors are filled with the step."""
    def checkpoint(epoch: int = 1, step: int = 2, **changes: Any) -> ComboCheckpoint:
        values: dict[str, Any] = {
            "fingerprint": "0123456789abcdef", "data_digest": "d" * 64, "epoch": epoch, "step": step,
            "params": {"model": {"net": "mb2-ssd-lite"}, "train": {"epochs": 5, "lr": 0.01}},
            "spec": {"net": "mb2-ssd-lite", "image_size": 64, "width_mult": 0.1, "class_names": ("red", "blue"),
                     "source_ids": (3, 7)},
            "weights": {f"w{i}": torch.full((200,), float(step)) for i in range(8)},
            "average": {}, "optimizer": {"state": {}, "param_groups": []}, "scaler": {},
            "totals": torch.zeros(3, dtype=torch.float64), "best": 0.25,
            "history": [{"epoch": 1, "train_loss": 2.5, "AP": 0.25}], "versions": {"torch": "2"},
        }
        return ComboCheckpoint(**{**values, **changes})
    return checkpoint


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Return two empty folders."""
    return Places(tmp_path / "checkpoints", tmp_path / "resume" / "0123456789abcdef")
