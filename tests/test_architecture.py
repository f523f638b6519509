"""The laws of the house, held true by reading the code."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from project import ROOT

# Lower rooms first: a room imports only from rooms to its left.
LAYERS = ["errors", "files", "processes", "device", "params", "manifest", "images", "balance", "sources", "annotations",
          "boxes", "data", "nets", "checkpoint", "distributed", "group", "train", "infer"]
STAGES = [path for path in sorted((ROOT / "stages").glob("*.py")) if path.name not in ("__init__.py", "runner.py")]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
LONGEST_STAGE = 30


def _imports(path: Path) -> Iterator[str]:
    """The project's modules that a file imports, at its head or in its functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _file_of(module: str) -> Path | None:
    path = ROOT / module.replace(".", "/")
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists()), None)


def _reach(path: Path) -> set[Path]:
    """All project files that importing `path` reads, itself included."""
    seen, waiting = set(), [path]
    while waiting:
        here = waiting.pop()
        if here in seen:
            continue
        seen.add(here)
        found = [_file_of(module) for module in _imports(here) if module.split(".")[0] in ("ssd_lib", "stages")]
        waiting += [file for file in (*found, here.with_name("__init__.py")) if file and file.exists()]
    return {file for file in seen if file.name != "__init__.py" or len(ast.parse(file.read_text()).body) > 1}


def _room(path: Path) -> str:
    parts = path.relative_to(ROOT / "ssd_lib").parts
    return parts[0].removesuffix(".py")


LIBRARY = [path for path in sorted((ROOT / "ssd_lib").rglob("*.py")) if path.name != "__init__.py"]


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_layers(path: Path) -> None:
    height = LAYERS.index(_room(path))
    for module in _imports(path):
        if module.startswith("ssd_lib."):
            room = module.split(".")[1]
            assert LAYERS.index(room) <= height, f"{path.name} imports {module}, which is above it"


def test_train_and_infer_never_import_each_other() -> None:
    for room, other in (("train", "infer"), ("infer", "train")):
        for path in (ROOT / "ssd_lib" / room).glob("*.py"):
            assert not any(module.startswith(f"ssd_lib.{other}") for module in _imports(path)), path


def test_annotations_need_no_torch() -> None:
    for path in (ROOT / "stages" / "fix_annotations.py", ROOT / "stages" / "validate.py"):
        modules = {module.split(".")[0] for file in _reach(path) for module in _imports(file)}
        assert not modules & {"torch", "torchvision"}


@pytest.mark.parametrize("path", STAGES, ids=lambda p: p.stem)
def test_a_stage_s_deps_cover_what_its_script_imports(path: Path) -> None:
    deps = [ROOT / dep for dep in PIPELINE[path.stem]["deps"]]
    missing = [file.relative_to(ROOT).as_posix() for file in _reach(path)
               if not any(file == dep or dep in file.parents for dep in deps)]
    assert not missing


@pytest.mark.parametrize("path", STAGES, ids=lambda p: p.stem)
def test_a_stage_s_deps_name_no_code_that_it_does_not_import(path: Path) -> None:
    reach = _reach(path)
    for dep in PIPELINE[path.stem]["deps"]:
        if dep.startswith(("ssd_lib", "stages")):
            assert any(ROOT / dep == file or ROOT / dep in file.parents for file in reach), dep


@pytest.mark.parametrize("path", STAGES, ids=lambda p: p.stem)
def test_a_stage_s_params_are_the_groups_that_its_script_loads(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "load_params"]
    loaded = [argument.value for call in calls for argument in call.args if isinstance(argument, ast.Constant)]
    assert loaded == PIPELINE[path.stem]["params"]


@pytest.mark.parametrize("path", STAGES, ids=lambda p: p.stem)
def test_a_stage_script_is_short(path: Path) -> None:
    code = [line for line in path.read_text().splitlines() if line.strip()]
    assert len(code) <= LONGEST_STAGE


def test_every_stage_has_a_script_of_its_name() -> None:
    assert {path.stem for path in STAGES} == set(PIPELINE)
    assert all(stage["cmd"] == f"python -m stages.{name}" for name, stage in PIPELINE.items())


def test_runtime_is_listed_by_no_stage() -> None:
    assert all("runtime" not in stage["params"] for stage in PIPELINE.values())


def test_no_code_exits_below_the_stages() -> None:
    for path in LIBRARY:
        assert "sys.exit" not in path.read_text(), path


def test_nothing_needs_a_module_that_only_posix_has() -> None:
    for path in LIBRARY:
        heads = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in heads for alias in node.names} | {getattr(node, "module", None) for node in heads}
        assert not names & {"fcntl", "resource", "pwd", "grp", "termios", "pty"}, path


def test_the_readme_s_tree_names_every_file() -> None:
    tracked = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True,
                             text=True, check=True).stdout.split()
    tree = re.search(r"```text\n(\.?.*?ssd_lib/.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert tree is not None
    names = set(re.findall(r"[\w.\-*]+", tree[1]))
    shown = [Path(name) for name in tracked if name.startswith(("ssd_lib/", "stages/", "recipes/", "benchmarks/", "docs/"))]
    missing = [str(path) for path in shown if path.name != "__init__.py" and path.suffix in (".py", ".yaml", ".md")
               and path.name not in names]
    assert not missing
