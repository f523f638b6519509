"""Compare the epochs of a run, by AP or by validation loss, and say when `train.patience` ends a run that gets no better."""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def metric_of(row: Mapping[str, Any], train: Mapping[str, Any]) -> float | None:
    """Return what the epochs of a run are compared by; higher is better, and -inf stands for a number that is not finite.

    Args:
        row: an epoch of the history.
        train: the group `train` as plain values.

    Returns:
        AP, or None where it was not measured; the negative validation loss if AP is never measured.
    """
    value = row.get("AP") if compares_ap(train) else -row["val_loss"]
    return -math.inf if value is not None and not math.isfinite(value) else value


def stop_reason(history: Sequence[Mapping[str, Any]], best: float | None, train: Mapping[str, Any]) -> str:
    """Say why `train.patience` ends a run after these epochs; "" if it does not.

    Args:
        history: one dict for each complete epoch, as in ComboCheckpoint.
        best: the best metric so far; None if none is known that can be compared.
        train: the group `train` as plain values.
    """
    if (patience := train.get("patience", 0)) == 0:
        return ""
    measured = [(metric, row["epoch"]) for row in history if (metric := metric_of(row, train)) is not None]
    of_best = next((i for i, (metric, _) in enumerate(measured) if metric == best), len(measured))
    waited = len(measured) - 1 - of_best
    if waited < patience:
        return ""
    metric, epoch = measured[of_best]
    name = f"AP {metric:.3f}" if compares_ap(train) else f"the validation loss {-metric:.3f}"
    return (f"{name} of epoch {epoch:.0f} is the best, and {waited} later measurements were not better (train.patience: "
            f"{patience})")


def compares_ap(train: Mapping[str, Any]) -> bool:
    """Whether the epochs of a run are compared by AP; else by the validation loss."""
    return bool(train.get("ap_every_epochs", 0) > 0)
