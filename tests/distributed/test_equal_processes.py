"""The stage with two processes trains the same net as with one, with the same global batch."""

from pathlib import Path

import pytest
from support.tiny_run import final_weights, make_workspace, run_stage, set_params, set_runtime


@pytest.mark.slow
def test_ten_steps_in_two_processes_are_those_of_one(tmp_path: Path) -> None:
    """With micro-batches in two processes. A net without batch norm, whose statistics differ between processes; SGD, since Adam
    turns the rounding error of a gradient near zero into a full step."""
    for processes in (1, 2):
        folder = make_workspace(tmp_path / str(processes), images=80)
        set_params(folder, {"net": "sq-ssd-lite", "width_mult": 1.0}, epochs=1, optimizer="sgd", ema_decay=0.0,
                   augmentation="ssd", ap_every_epochs=0, batch_size=8, micro_batch="auto" if processes == 1 else 2)
        set_runtime(folder, "processes: 1", f"processes: {processes}")
        done = run_stage(folder)
        assert done.returncode == 0, done.stderr
    one, two = final_weights(tmp_path / "1"), final_weights(tmp_path / "2")
    assert max((one[key] - two[key]).abs().max().item() for key in one) < 1e-5
