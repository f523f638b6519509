"""train.compile changes how a net is computed, and nothing of what is saved."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from support.tiny_run import make_workspace, run_stage, set_params

from ssd_lib.checkpoint.file import LAST, read_checkpoint

pytestmark = pytest.mark.slow  # tracing takes half a minute


def _compile_with(backend: str | Callable[..., Any]) -> None:
    setattr(torch, "compile", partial(torch.compile, backend=backend))  # noqa: B010


def _no_compiler(*_: Any) -> NoReturn:
    raise RuntimeError("no working compiler")


def test_a_compiled_net_learns_the_same_under_the_same_names(tmp_path: Path) -> None:
    """With a backend that traces and rewrites, but compiles nothing: the others take a minute or more. Rounding differs."""
    plain, compiled = make_workspace(tmp_path / "plain"), make_workspace(tmp_path / "compiled")
    set_params(plain, optimizer="sgd", epochs=1, lr=0.001)
    set_params(compiled, optimizer="sgd", epochs=1, lr=0.001, compile=True)
    assert run_stage(plain).returncode == 0
    done = run_stage(compiled, prepare=partial(_compile_with, "aot_eager"))
    assert done.returncode == 0, done.stderr
    one, other = (read_checkpoint(folder / "models" / "checkpoints" / LAST) for folder in (plain, compiled))
    assert one.weights.keys() == other.weights.keys()
    assert one.history[0]["train_loss"] == pytest.approx(other.history[0]["train_loss"], rel=0.05)


def test_where_nothing_can_be_compiled_the_key_is_named(workspace: Path) -> None:
    set_params(workspace, compile=True)
    failed = run_stage(workspace, prepare=partial(_compile_with, _no_compiler))
    assert failed.returncode == 1
    assert "set train.compile: false" in failed.stderr
    assert "Traceback" not in failed.stderr
