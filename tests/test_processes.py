"""A child ends when its parent does; freed memory is kept."""

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import ends
from support.project import ROOT

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""
CHILD = """
import signal, time
from ssd_lib.processes import die_with_parent
die_with_parent(signal.SIGKILL)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux signals the end of a parent")
def test_a_child_does_not_outlive_a_killed_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        os.kill(parent.pid, signal.SIGKILL)
    assert ends(child)


DVC = """
import os, subprocess, sys
stage = subprocess.Popen([sys.argv[1], "-c", f"{sys.executable} {sys.argv[2]}"], stdout=subprocess.PIPE,
                         env=os.environ | {"DVC_STAGE": "train"})
print(int(stage.stdout.readline()), flush=True)
stage.wait()
"""
STAGE = """
import os, signal, time
from ssd_lib.processes import die_with_dvc
die_with_dvc(signal.SIGKILL)
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux signals the end of a parent")
@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_a_stage_does_not_outlive_a_killed_dvc(shell: str, tmp_path: Path) -> None:
    """The shell between them stays (dash), or is replaced by the stage (bash)."""
    if not Path(shell).exists():
        pytest.skip(f"there is no {shell}")
    script = tmp_path / "stage.py"
    script.write_text(STAGE)
    with subprocess.Popen([sys.executable, "-c", DVC, shell, str(script)], stdout=subprocess.PIPE, text=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)}) as dvc:
        assert dvc.stdout is not None
        stage = int(dvc.stdout.readline())
        os.kill(dvc.pid, signal.SIGKILL)
    assert ends(stage)


FAULTS = """
import resource, sys
import numpy as np
from ssd_lib.processes import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit("the C library cannot")
for turn in range(12):
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(1 << 22)  # 32 MiB, freed at once
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
def test_kept_memory_causes_few_page_faults() -> None:
    """Each of these blocks has 8192 pages, or a few huge ones, and each new page is a fault."""
    kept, given_back = (int(subprocess.check_output([sys.executable, "-c", FAULTS, how])) for how in ("keep", "return"))
    assert kept * 10 < given_back
