"""Imports of the project's files, and the stages of dvc.yaml that run again when a file changes."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

from support.project import ROOT

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
LIBRARY = sorted((ROOT / "ssd_lib").rglob("*.py"))
STAGES = {name: ROOT / "stages" / f"{name}.py" for name in PIPELINE}
# No dependencies: dvc.yaml tracks the values of params.yaml, by `params:`, and the wording of its faults changes no result.
PARAMS = {ROOT / "ssd_lib" / "params.py", ROOT / "ssd_lib" / "params_faults.py"}


@cache
def imported_modules(path: Path) -> frozenset[str]:
    """Return the modules that a file imports, at the top or in functions."""
    return frozenset(_imports(ast.parse(path.read_text())))


def imported_files(path: Path) -> set[Path]:
    """Return `path` and all files of the project that it imports, directly or indirectly, without empty __init__.py files."""
    seen, waiting = set(), [path]
    while waiting:
        here = waiting.pop()
        if here not in seen:
            seen.add(here)
            modules = [_file_of(module) for module in imported_modules(here) if module.split(".")[0] in ("ssd_lib", "stages")]
            waiting += [file for file in (*modules, here.with_name("__init__.py")) if file and file.exists()]
    return {file for file in seen if file.name != "__init__.py" or len(ast.parse(file.read_text()).body) > 1}


def code_dependencies(stage: str) -> list[str]:
    """Return the code that `deps` of a stage must list: a package if all its files are needed, otherwise files.

    A template or style sheet is needed if a module in the same folder is.
    """
    needed = imported_files(STAGES[stage]) - PARAMS
    needed |= {file for folder in {module.parent for module in needed} for file in data_files(folder)}
    whole = {file.parent for file in needed
             if file.parent not in (ROOT / "stages", ROOT / "ssd_lib")
             and {*_modules(file.parent), *data_files(file.parent)} <= needed}
    names = {next((folder for folder in reversed(file.parents) if folder in whole), file) for file in needed}
    return sorted(path.relative_to(ROOT).as_posix() for path in names)


def data_files(folder: Path) -> list[Path]:
    """Return the files of a package that are not modules, such as templates."""
    return [file for file in folder.iterdir() if file.is_file() and file.suffix not in (".py", ".pyc")]


def stages_run_again(path: Path) -> list[str]:
    """Return the stages whose `deps` list the file or one of its folders."""
    return [name for name, stage in PIPELINE.items()
            if any(path == ROOT / dep or ROOT / dep in path.parents for dep in stage["deps"])]


def _imports(tree: ast.Module) -> Iterator[str]:
    """Yield the imported modules, without those that only the type checker imports."""
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"]
    type_only = {inner for block in blocks for inner in ast.walk(block)}
    for node in ast.walk(tree):
        if node in type_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _modules(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*.py") if len(ast.parse(file.read_text()).body) > 1 or file.name != "__init__.py"]


def _file_of(module: str) -> Path | None:
    path = ROOT / module.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def file_tree() -> str:
    """Return the project's code files as docs/architecture.md lists them, each with the first sentence of its docstring."""
    lines = []
    for top in ("stages", "ssd_lib"):
        for path in sorted((ROOT / top).rglob("*.py"), key=lambda path: (path.parent != ROOT / top, path.parent, path.name)):
            summary = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0].replace("\n", " ")
            summary = summary.partition(". ")[0].removesuffix(".")
            name = path.parent if path.name == "__init__.py" else path
            indent = "  " * (len(name.relative_to(ROOT).parts) - 1)
            label = f"{indent}{name.name}{'/' if name is not path else ''}"
            lines.append(f"{label:<28}{summary}")
    return "\n".join(lines)


def rerun_table() -> str:
    """Return which stages run again when a file changes, as docs/architecture.md lists it.

    A row is a package, or a group of its files.
    """
    library = ROOT / "ssd_lib"
    packages: dict[str, dict[tuple[str, ...], list[str]]] = {}
    for path in sorted(library.rglob("*")):
        if path.is_file() and path.suffix != ".pyc" and (path.name != "__init__.py" or path.parent == library):
            package, _, name = path.relative_to(library).as_posix().rpartition("/")
            groups = packages.setdefault(package.partition("/")[0], {})
            groups.setdefault(tuple(stages_run_again(path)), []).append(f"`{package}/{name}`".replace("`/", "`"))
    rows = [f"| {', '.join(names) if len(groups) > 1 else f'`{package}/`'} | {', '.join(stages) or 'none'} |"
            for package, groups in packages.items() for stages, names in groups.items()]
    return "\n".join(["| change in ssd_lib/ | stages that run again |", "|---|---|", *rows])
