"""The first seconds of a stage: it ends with DVC, and Ctrl-C ends it without a traceback."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import ends, wait_until
from support.project import ROOT

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-m", "stages.train"], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture
def environment() -> dict[str, str]:
    """Return an environment in which the project can be imported from any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _importing(pid: int) -> None:
    """Wait until a stage has imported a part of torch."""
    wait_until(lambda: "libtorch_cpu" in Path(f"/proc/{pid}/maps").read_text())


@pytest.mark.slow
def test_training_does_not_wait_for_what_only_its_end_needs() -> None:
    code = "import sys, stages.train\nprint({'matplotlib', 'albumentations', 'onnx', 'pandas'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).endswith("set()\n")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_ctrl_c_during_the_imports_prints_one_line(tmp_path: Path, environment: dict[str, str]) -> None:
    stage = subprocess.Popen([sys.executable, "-m", "stages.train"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True,
                             preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    _importing(stage.pid)
    stage.send_signal(signal.SIGINT)
    before, said = stage.communicate(timeout=60)
    assert before.startswith("train: loading PyTorch")
    assert stage.returncode != 0
    assert "stopped" in said
    assert "Traceback" not in said


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux signals the end of a parent")
def test_a_stage_ends_with_a_killed_dvc_while_it_still_imports(tmp_path: Path, environment: dict[str, str]) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=tmp_path, env=environment, stdout=subprocess.PIPE,
                          text=True) as dvc:
        assert dvc.stdout is not None
        stage = int(dvc.stdout.readline())
        _importing(stage)
        os.kill(dvc.pid, signal.SIGKILL)
    assert ends(stage)
