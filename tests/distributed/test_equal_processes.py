"""The real stage in two processes gives what it gives in one, with the same global batch."""

from pathlib import Path

from support.tiny_run import final_weights, make_workspace, run_stage, set_params, set_runtime


def test_ten_steps_in_two_processes_are_those_of_one(tmp_path: Path) -> None:
    """A net without batch norm, which gathers its statistics in each process; and SGD, since Adam makes full steps of gradients
    that are nothing but rounding."""
    for processes in (1, 2):
        folder = make_workspace(tmp_path / str(processes), images=40)
        set_params(folder, {"net": "sq-ssd-lite", "width_mult": 1.0}, epochs=1, optimizer="sgd", ema_decay=0.0,
                   augmentation="ssd", ap_every_epochs=0)
        set_runtime(folder, "processes: 1", f"processes: {processes}")
        done = run_stage(folder)
        assert done.returncode == 0, done.stderr
    one, two = final_weights(tmp_path / "1"), final_weights(tmp_path / "2")
    assert max((one[key] - two[key]).abs().max().item() for key in one) < 1e-5
