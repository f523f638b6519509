"""When `train.patience` ends a run."""

import pytest

from ssd_lib.checkpoint.best_epoch import stop_reason


@pytest.mark.parametrize(("aps", "patience", "stops"), [
    ([0.2, 0.3, 0.1, 0.3], 2, True),  # as good is not better
    ([0.2, 0.3, 0.1, None, 0.2], 3, False),  # an epoch without a measurement does not count
    ([0.2, 0.3, 0.1, None, 0.2], 2, True),
    ([0.2, 0.3, 0.1, 0.4], 1, False),
    ([0.3, 0.1, 0.1], 0, False),
    ([0.3, 0.1, 0.1], 3, False),
    ([0.3, float("nan")], 1, True),
    ([], 1, False),
])
def test_patience_counts_the_measurements_since_the_best(aps: list[float | None], patience: int, stops: bool) -> None:
    for by_ap in (True, False):
        history = [{"epoch": i + 1, **({"AP": ap, "val_loss": 1.0} if by_ap else {"val_loss": -ap})}
                   for i, ap in enumerate(aps) if by_ap or ap is not None]
        best = max((ap for ap in aps if ap is not None and ap == ap), default=None)
        assert bool(stop_reason(history, best, {"patience": patience, "ap_every_epochs": int(by_ap)})) == stops
