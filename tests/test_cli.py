"""The command line as a whole; what each command does is tested with its package."""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from support.project import ROOT

import detect
from ssd_lib import cli
from ssd_lib.boxes.selection import Nms
from ssd_lib.cli import add_detect_arguments, main, run_command
from ssd_lib.errors import InputError, StateError
from ssd_lib.nets.model_file import MODEL_PATH

COMMANDS = ("init", "detect", "benchmark", "evaluate", "labels", "checkpoint", "data", "cache")


def ending_with(error: BaseException) -> argparse.Namespace:
    """Return the options of a command that ends with this error."""
    def run(_: argparse.Namespace) -> int:
        raise error
    return argparse.Namespace(run=run)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    printed = capsys.readouterr().out
    assert all(f"\n    {name}" in printed for name in COMMANDS)
    assert "ssd detect photo.jpg" in printed


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS), ["checkpoint", "show"], ["checkpoint", "convert"]])
def test_every_command_has_a_help_text(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([*arguments, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: {' '.join(['ssd', *arguments])} [-h]")


def test_arguments_are_read_before_torch_is_imported() -> None:
    code = ("import sys\nfrom ssd_lib.cli import main\ntry: main(['checkpoint', '--help'])\n"
            "except SystemExit: print({'torch', 'cv2', 'numpy'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


def test_a_missing_command_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "required: COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize("error", [InputError("a.json: wrong"), StateError("a.json: wrong")])
def test_an_error_of_the_user_is_one_line_and_exit_code_1(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(ending_with(error)) == 1
    assert capsys.readouterr() == ("", "ERROR a.json: wrong\n")


def test_ctrl_c_is_exit_code_130_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(ending_with(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "")


def test_any_other_error_is_our_bug_and_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(ending_with(ZeroDivisionError()))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_a_reader_that_closes_the_pipe_does_not_end_the_command() -> None:
    code = ("import argparse, sys, time\nfrom ssd_lib.cli import run_command\n"
            "def run(_):\n    sys.stdin.read()\n    print('x' * 100_000)\n    return 0\n"
            "sys.exit(run_command(argparse.Namespace(run=run)))")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read().startswith("WARNING standard output cannot be written (Broken pipe)")
    assert process.wait(timeout=60) == 0


def test_python_m_ssd_lib_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "ssd_lib", "checkpoint", "show", "none.pt"], cwd=ROOT, capture_output=True,
                          text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("ERROR none.pt: ")
    assert len(done.stderr.splitlines()) == 1


def test_detect_py_is_ssd_detect(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[argparse.Namespace] = []
    monkeypatch.setattr(cli, "_detect", lambda options: seen.append(options) or 0)
    arguments = ["a.jpg", "--threshold", "0.5", "--nms", "soft"]
    assert detect.main(arguments) == main(["detect", *arguments]) == 0
    assert seen[0] == seen[1]


def test_the_arguments_agree_with_the_library() -> None:
    parser = argparse.ArgumentParser()
    add_detect_arguments(parser)
    assert parser.parse_args(["a.jpg"]).model == MODEL_PATH.parent
    assert [parser.parse_args(["a.jpg", "--nms", nms]).nms for nms in get_args(Nms)] == list(get_args(Nms))


def test_cache_shows_and_prunes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / "data/cache/raw-86-2").mkdir(parents=True)
    assert main(["cache"]) == 0
    assert capsys.readouterr().out.startswith("data/cache/raw-86-2: 0 images")
    assert main(["cache", "--prune"]) == 1
    assert capsys.readouterr().err.startswith("ERROR params.yaml: missing")
