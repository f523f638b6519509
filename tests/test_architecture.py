"""The rules of the project's layout, checked by reading the code."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
from support.architecture import (
    LIBRARY,
    PARAMS,
    PIPELINE,
    STAGES,
    code_dependencies,
    file_tree,
    imported_files,
    imported_modules,
    rerun_table,
    stages_run_again,
)
from support.project import ROOT

# A package or a file of ssd_lib imports only from itself and from those before it.
LAYERS = ["errors", "files", "processes", "plain_values", "params_faults", "params", "manifest", "exif", "images", "report",
          "annotations", "demo", "download", "boxes", "data", "validation", "device", "nets", "checkpoint", "distributed",
          "train", "evaluate", "labels", "export", "detect", "init", "cli", "__main__"]
LONGEST_STAGE = 30
POSIX_ONLY = {"fcntl", "resource", "pwd", "grp", "termios", "pty"}


def _layer(path: Path) -> int:
    return LAYERS.index(path.relative_to(ROOT / "ssd_lib").parts[0].removesuffix(".py"))


def test_imports_follow_the_layers() -> None:
    against = [f"{path.relative_to(ROOT)} imports {module}" for path in LIBRARY if path != ROOT / "ssd_lib" / "__init__.py"
               for module in imported_modules(path)
               if module.startswith("ssd_lib.") and LAYERS.index(module.split(".")[1]) > _layer(path)]
    assert not against


def test_training_never_imports_evaluation_or_detection() -> None:
    for path in (ROOT / "ssd_lib" / "train").glob("*.py"):
        assert not any(module.startswith(("ssd_lib.evaluate", "ssd_lib.detect")) for module in imported_modules(path)), path


def test_data_never_imports_nets() -> None:
    for path in (ROOT / "ssd_lib" / "data").glob("*.py"):
        assert not any(module.startswith("ssd_lib.nets") for module in imported_modules(path)), path


def test_stages_without_torch_never_import_it() -> None:
    for stage in ("download", "validate", "fix_annotations"):
        modules = {module.split(".")[0] for file in imported_files(STAGES[stage]) for module in imported_modules(file)}
        assert not modules & {"torch", "torchvision"}, stage


@pytest.mark.parametrize("stage", PIPELINE)
def test_deps_of_a_stage_are_exactly_what_its_script_imports(stage: str) -> None:
    deps = [dep for dep in PIPELINE[stage]["deps"] if dep.startswith(("ssd_lib", "stages"))]
    assert sorted(deps) == code_dependencies(stage), "write this list into dvc.yaml"


def test_params_of_a_stage_are_the_sections_that_its_script_loads() -> None:
    for stage, path in STAGES.items():
        calls = [node for node in ast.walk(ast.parse(path.read_text()))
                 if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "load_params"]
        loaded = [argument.value for call in calls for argument in call.args if isinstance(argument, ast.Constant)]
        assert loaded == PIPELINE[stage]["params"], stage


def test_every_stage_has_a_short_script_of_its_name() -> None:
    scripts = {path.stem: path for path in (ROOT / "stages").glob("*.py") if path.stem not in ("__init__", "runner")}
    assert scripts == STAGES
    for name, stage in PIPELINE.items():
        first = stage["cmd"] if isinstance(stage["cmd"], str) else stage["cmd"][0]
        assert first == f"python -m stages.{name}"
    for path in scripts.values():
        assert len([line for line in path.read_text().splitlines() if line.strip()]) <= LONGEST_STAGE, path


def test_no_stage_lists_runtime() -> None:
    assert all("runtime" not in stage["params"] for stage in PIPELINE.values())


def test_no_code_exits_below_the_stages() -> None:
    for path in LIBRARY:
        assert "sys.exit" not in path.read_text(), path


def test_no_module_needs_posix_to_be_imported() -> None:
    for path in LIBRARY:
        heads = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in heads for alias in node.names} | {getattr(node, "module", None) for node in heads}
        assert not names & POSIX_ONLY, path


def test_no_test_imports_from_another_test() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        assert not any(part.startswith("test_") for module in imported_modules(path) for part in module.split(".")), path


@pytest.mark.parametrize("text", [file_tree, rerun_table])
def test_the_architecture_page_is_up_to_date(text: Callable[[], str]) -> None:
    assert text() in (ROOT / "docs" / "architecture.md").read_text(), f"write this into docs/architecture.md:\n{text()}"


def test_a_change_of_what_is_shown_runs_little_again() -> None:
    library = ROOT / "ssd_lib"
    assert all(not stages_run_again(path) for path in (library / "detect").glob("*.py"))
    checks = [path for path in (library / "validation").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert all(stages_run_again(path) == ["validate"] for path in checks)
    page = [path for path in (library / "evaluate" / "page").rglob("*.py") if path.name != "__init__.py"]
    assert page
    assert all(stages_run_again(path) == ["evaluate"] for path in page)
    shared = [path for path in (library / "report").glob("*") if path.is_file()]
    assert {path.suffix for path in shared} >= {".py", ".jinja"}
    assert all(stages_run_again(path) == ["validate", "evaluate"] for path in shared)
    assert [stage for stage, entry in PIPELINE.items() if "export" in entry["params"]] == ["export"]
    assert not any(map(stages_run_again, PARAMS))
