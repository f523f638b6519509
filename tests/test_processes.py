"""A child ends when its parent does; freed memory is kept; output that cannot be written ends nothing."""

import os
import platform
import signal
import subprocess
import sys
from math import inf
from pathlib import Path

import pytest
from support.processes import ends
from support.project import ROOT

from ssd_lib.processes import available_cores, cpu_quota, free_cores

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


def test_cores_that_others_use_are_not_free() -> None:
    cores = available_cores()
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores + 1)]
    try:
        assert free_cores(0.3) < cores / 2
    finally:
        for process in spinning:
            process.kill()
            process.wait()


@pytest.mark.parametrize(("own", "files", "cores"), [
    ("0::/job\n", {"cpu.max": "max 100000", "job/cpu.max": "150000 100000"}, 1.5),
    ("0::/job/step\n", {"cpu.max": "800000 100000", "job/cpu.max": "200000 100000", "job/step/cpu.max": "max 100000"}, 2),
    ("0::/\n", {}, inf),
    ("4:memory:/a\n1:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
    ("1:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, inf),
], ids=["version 2", "that of an outer group", "no limit", "version 1", "version 1 without a limit"])
def test_the_quota_of_a_container_is_read(tmp_path: Path, own: str, files: dict[str, str], cores: float) -> None:
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (tmp_path / "own").write_text(own)
    assert cpu_quota(tmp_path / "cgroup", tmp_path / "own") == cores


PRINTS = """
import os, sys
from ssd_lib.processes import secure_output
secure_output()
secure_output()  # the second call changes nothing
for number in range(3):
    print("out", number, "\\udcff", flush=True)
    print("error", number, file=sys.stderr)
with open("opened", "w") as file:
    file.write(str(file.fileno()))
"""


def _printed(tmp_path: Path, redirection: str) -> tuple[int, str, str]:
    """Run PRINTS with a redirection of the shell; return its exit code and what is left of its output."""
    done = subprocess.run(["/bin/bash", "-c", f'{sys.executable} -c "$1" {redirection}', "bash", PRINTS], cwd=tmp_path,
                          text=True, capture_output=True, check=False, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert int((tmp_path / "opened").read_text()) > 2, "the next file got the number of a closed stream"
    return done.returncode, done.stdout, done.stderr


OUT, ERROR = (tuple(f"{name} {number}" for number in range(3)) for name in ("out", "error"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full and a shell")
@pytest.mark.parametrize(("redirection", "out", "error"), [
    ("", OUT, ERROR),
    ("> /dev/full", (), ("WARNING standard output cannot be written (No space left on device); the work goes on without it",
                         *ERROR)),
    ("2> /dev/full", (OUT[0], "WARNING standard error cannot be written (No space left on device); the work goes on without it",
                      *OUT[1:]), ()),
    ("> /dev/full 2>&1", (), ()), (">&-", (), ERROR), ("2>&-", OUT, ()), (">&- 2>&- <&-", (), ()),
])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redirection: str,
                                                    out: tuple[str, ...], error: tuple[str, ...], unbuffered: str) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    code, *written = _printed(tmp_path, redirection)
    assert code == 0
    assert [line.removesuffix(" \\udcff") for line in written[0].splitlines()] == list(out)
    assert written[1].splitlines() == list(error)


def test_a_pipe_whose_reader_has_ended_ends_nothing() -> None:
    code = ("import sys\nfrom ssd_lib.processes import secure_output\nsecure_output()\nsys.stdin.read()\n"
            "for _ in range(9):\n    print('x' * 100_000)\nsys.exit(5)")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == "WARNING standard output cannot be written (Broken pipe); the work goes on without it\n"
    assert process.wait(timeout=60) == 5


def test_what_is_left_at_the_end_is_not_searched() -> None:
    code = ("class Left:\n"
            "    def __del__(self):\n"
            "        print('searched', flush=True)\n"
            "cycle = [Left()]\n"
            "cycle[0].cycle = cycle\n"
            "del cycle\n")
    quick = "from ssd_lib.processes import end_quickly\nend_quickly()\n"
    for first, said in (("", "searched\n"), (quick, "")):
        assert subprocess.check_output([sys.executable, "-c", first + code], cwd=ROOT, text=True) == said
