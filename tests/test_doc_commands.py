"""The commands that README.md and docs/ name exist; the blocks that are marked `<!-- run -->` run in a tiny clone.

docs/log.md is left out: it tells what was done, with the commands of its day.
"""

import argparse
import contextlib
import importlib
import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from dvc.cli.parser import get_main_parser
from dvc.exceptions import DvcException
from support.project import ROOT
from support.repository import dvc, environment, make_clone
from support.videos import make_video

from ssd_lib import cli
from ssd_lib.params import load_params

DOCUMENTS = sorted(path for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")) if path.name != "log.md")
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
OURS = ("python", "dvc", "ssd", "pip", "cp")
FILES = {"json", "py", "csv", "pt", "onnx", "yaml", "html", "md", "png", "txt"}


class Command(NamedTuple):
    """A command of a document, split into words as by a shell."""

    document: str
    line: int
    words: list[str]
    inline: bool


class Parsed(Exception):  # noqa: N818
    """The arguments of a command were accepted."""


def blocks(text: str) -> Iterator[tuple[int, list[str], bool]]:
    """Yield the code blocks, fenced or indented: number of the first line, lines, and whether the block is marked to be run."""
    lines, at = text.splitlines(), 0
    while at < len(lines):
        start = at
        if lines[at].startswith("```"):
            at = lines.index("```", at + 1)
            block, first = lines[start + 1:at], start + 1
        elif lines[at].startswith("    "):
            while at < len(lines) and lines[at].startswith("    "):
                at += 1
            block, first = [line[4:] for line in lines[start:at]], start
        else:
            at += 1
            continue
        before = next((line for line in reversed(lines[:start]) if line.strip()), "")
        yield first + 1, block, before.strip() == "<!-- run -->"
        at += 1


def commands(document: Path) -> Iterator[Command]:
    """Yield the commands of this project in a document."""
    text = document.read_text()
    code = {number + at: line for number, block, _ in blocks(text) for at, line in enumerate(block)}
    for number, line in enumerate(text.splitlines(), 1):
        inline = number not in code
        for piece in re.findall(r"`([^`]+)`", line) if inline else [code[number]]:
            for part in re.split(r"&&|;(?=\s)|\|(?=\s)|\bexec\b", re.sub(r"\s#\s.*", "", piece)):
                with contextlib.suppress(ValueError):  # not a line of a shell
                    words = shlex.split(re.sub(r"\s<\s.*", "", part))
                    if len(words) > 1 and words[0] in OURS and (words[0] != "python" or words[1] == "-m" or ".py" in words[1]):
                        yield Command(document.name, number, words, inline)


def check(command: Command) -> None:
    """Fail unless the command exists, with its options, parameters and stages."""
    program, *arguments = command.words
    if program == "dvc":
        check_dvc(arguments, command.inline)
    elif program == "ssd":
        parse(cli.main, arguments, command.inline)
    elif program == "pip":
        assert all((ROOT / name).exists() for name in arguments if name.endswith(".txt")), "no such file of requirements"
    elif program == "cp":
        assert all((ROOT / name).exists() for name in arguments), "no such file"
    elif arguments[0] == "-m":
        check_module(arguments[1], arguments[2:], command.inline)
    else:
        assert (ROOT / arguments[0]).is_file(), "no such script"
        check_module(arguments[0].removesuffix(".py"), arguments[1:], command.inline)


def check_dvc(arguments: list[str], inline: bool) -> None:
    """Fail unless DVC has the command with these options, and the project the stages and parameters."""
    if arguments[-1] == "-S":  # in the text, without what follows it
        arguments = arguments[:-1]
    if not inline or len(arguments) > 2:
        try:
            options = get_main_parser().parse_args(arguments)
        except DvcException as error:
            pytest.fail(f"dvc: {error}")
        unknown = set(getattr(options, "targets", None) or []) - set(STAGES)
        assert arguments[0] not in ("repro", "exp") or not unknown, f"no stages of dvc.yaml: {unknown}"
        changes = getattr(options, "set_param", None) or []
        check_params(changes)
    else:
        parse_help(lambda words: get_main_parser().parse_args(words), arguments)


def check_params(changes: list[str]) -> None:
    """Fail unless params.yaml has these keys and allows these values."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    for change in changes:
        name, _, value = change.partition("=")
        group, key = name.split(".")
        assert key in tree[group], f"params.yaml has no {name}"
        tree[group][key] = yaml.safe_load(value)
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    load_params(*PARAMS, path=Path("params.yaml"))


def check_module(name: str, arguments: list[str], inline: bool) -> None:
    """Fail unless the module exists, can be imported, and takes these arguments."""
    if name == "ssd_lib":
        parse(cli.main, arguments or ["--help"], inline)
    elif arguments:
        sys.argv = [name, *arguments]
        parse(lambda _: runpy.run_module(name, run_name="__main__"), arguments, inline=False)
    else:
        importlib.import_module(name.removesuffix(".NAME"))


def parse(main, words: list[str], inline: bool) -> None:  # type: ignore[no-untyped-def]
    """Give the arguments to the parser of `main`, which does no more than that here; inline code may omit what is required."""
    if "--help" in words or (inline and not any(word.startswith("-") for word in words)):
        parse_help(main, words)
    else:
        with pytest.raises(Parsed):
            main(words)


def parse_help(main, words: list[str]) -> None:  # type: ignore[no-untyped-def]
    """Ask a command for its help."""
    with pytest.raises(SystemExit) as end, contextlib.redirect_stdout(io.StringIO()):
        main([*words, "--help"])
    assert end.value.code == 0, f"{shlex.join(words)}: no such command"


@pytest.fixture
def parse_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make commands of the project stop after reading their arguments, in a folder of their own."""
    real = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, args=None, namespace=None):  # type: ignore[no-untyped-def]
        options = real(self, args, namespace)
        if type(self) is argparse.ArgumentParser:  # not DVC's, whose options are looked at
            raise Parsed
        return options

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.chdir(tmp_path)


def faults(document: Path) -> list[str]:
    """Return what is wrong with the commands of a document."""
    found = []
    for command in commands(document):
        try:
            with contextlib.redirect_stderr(io.StringIO()) as said:
                check(command)
        except (Exception, SystemExit, pytest.fail.Exception) as error:  # noqa: BLE001
            found.append(f"{command.document}:{command.line}: {shlex.join(command.words)}: {said.getvalue()[-300:]} {error}")
    return found


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
@pytest.mark.usefixtures("parse_only")
def test_every_command_of_a_document_exists(document: Path) -> None:
    assert faults(document) == []


def test_commands_are_found() -> None:
    found = [command for document in DOCUMENTS for command in commands(document)]
    assert {command.words[0] for command in found} == set(OURS)
    assert len(found) > 50
    assert sum(command.inline for command in found) > 15


def test_no_block_records_an_experiment_of_some_stages_only() -> None:
    """DVC would record the older results of the other stages with it, such as the AP of another model."""
    found = [command for document in DOCUMENTS for command in commands(document)
             if command.words[:3] == ["dvc", "exp", "run"] and not command.inline]
    assert len(found) > 5
    assert not [command for command in found if get_main_parser().parse_args(command.words[1:]).targets]


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("line", [
    "dvc reproduce", "dvc repro --singel-item download", "dvc repro no_stage", "dvc exp run -S train.lrr=1",
    "dvc exp run -S train.lr=fast", "ssd look photo.jpg", "ssd detect photo.jpg --treshold 0.5", "python -m stages.nothing",
    "python -m benchmarks.run --dry", "python -m stages.train --alone", "python lost.py photo.jpg",
    "python detect.py --shows 0",
    "cp recipes/none.yaml params.yaml", "pip install -r requirements-none.txt", "ssd checkpoint look last.pt"])
@pytest.mark.usefixtures("parse_only")
def test_a_dead_command_is_found(tmp_path: Path, line: str) -> None:
    document = tmp_path / "page.md"
    document.write_text(f"Do this:\n\n    {line}    # with a comment\n")
    assert len(faults(document)) == 1


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_keys_named_in_a_document_are_in_params_yaml(document: Path) -> None:
    named = re.findall(rf"`({'|'.join(PARAMS)})\.([a-z_]+)\b[^`./]*`", document.read_text())
    assert not [f"{group}.{key}" for group, key in named if key not in FILES and key not in PARAMS[group]]


def marked_lines(document: Path) -> list[str]:
    """Return the commands of the marked blocks."""
    return [line for _, block, marked in blocks(document.read_text()) if marked for line in block if line.strip()]


def provide_files(clone: Path) -> None:
    """Put the files into a clone that the documents name as examples."""
    annotations = next(clone.glob("data/raw/**/instances_val2017.json"))
    images = sorted(next(clone.glob("data/raw/**/val2017")).glob("*.jpg"))
    shutil.copy(annotations, clone / annotations.name)
    shutil.copy(images[0], clone / "photo.jpg")
    for folder in ("holiday", "val2017"):
        shutil.copytree(images[0].parent, clone / folder)
    make_video(clone / "clip.mp4", 4)


def provide_programs(folder: Path) -> Path:
    """Write `python`, `dvc` and `ssd`, all with this Python."""
    folder.mkdir()
    for name, module in (("python", ""), ("dvc", "-m dvc"), ("ssd", "-m ssd_lib")):
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.slow
def test_marked_blocks_run(tmp_path: Path) -> None:
    clone, programs = make_clone(tmp_path / "clone"), provide_programs(tmp_path / "bin")
    done = dvc(clone, "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    provide_files(clone)
    variables = environment(clone)
    variables["PATH"] = f"{programs}{os.pathsep}{variables['PATH']}"
    for line in (line for document in DOCUMENTS for line in marked_lines(document)):
        ended = subprocess.run(["bash", "-c", line], cwd=clone, env=variables, capture_output=True, text=True, check=False,
                               timeout=500)
        assert ended.returncode == 0, f"{line}\n{ended.stdout}{ended.stderr}"


def test_some_blocks_are_marked() -> None:
    assert sum(len(marked_lines(document)) for document in DOCUMENTS) >= 4
