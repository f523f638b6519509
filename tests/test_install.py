"""The installed package: a wheel is built, installed in a virtual environment, and used outside the repository."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from support.project import ROOT

from ssd_lib.checkpoint.file import ComboCheckpoint, save_checkpoint
from ssd_lib.evaluate.drawing import write_image
from ssd_lib.nets.model_file import NetSpec, save_model

LIBRARY = ROOT / "ssd_lib"


class Installed(NamedTuple):
    """A wheel, the virtual environment that it is installed in, and a folder outside the repository."""

    wheel: Path
    bin: Path
    folder: Path

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the virtual environment."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        return subprocess.run([self.bin / program, *arguments], cwd=self.folder, env=clean, capture_output=True, text=True,
                              check=False, timeout=120)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Install the package, built from a copy as a build writes beside its sources; its dependencies are this environment's."""
    source, wheels, environment, folder = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "venv", "elsewhere"))
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("ssd_lib", "stages", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={wheels}", source], check=True)
    wheel = next(wheels.glob("*.whl"))
    venv.create(environment)
    python = environment / Path(sys.executable).parent.name / Path(sys.executable).name
    subprocess.run([*pip, f"--python={python}", "install", "--no-deps", "--no-index", wheel], check=True)
    packages = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True,
                              text=True, check=True).stdout.strip()
    (Path(packages) / "dependencies.pth").write_text("\n".join({sysconfig.get_path(name) for name in ("purelib", "platlib")}))
    spec = NetSpec("mb2-ssd-lite", 64, 0.1, ("dog", "kite"), (18, 38))
    save_model(folder / "ssd.pt", spec, spec.build().state_dict(), {})
    checkpoint = ComboCheckpoint(
        fingerprint="0" * 16, params={"train": {"epochs": 5}}, data_digest="0" * 64, spec=asdict(spec), epoch=1, step=0,
        weights=spec.build().state_dict(), average={}, optimizer={}, scaler={}, totals=torch.zeros(3), best=None, history=[],
        versions={})
    save_checkpoint(checkpoint, folder, folder / "resume", is_best=False)
    write_image(folder / "a.png", np.random.default_rng(0).integers(0, 255, (50, 80, 3)).astype(np.uint8))
    return Installed(wheel, python.parent, folder)


def test_the_wheel_holds_all_of_ssd_lib_and_nothing_else(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {path.relative_to(ROOT).as_posix() for path in LIBRARY.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert names == wanted
    assert any(name.endswith(".jinja") for name in names)


def test_the_wheel_requires_what_requirements_txt_lists(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    wanted = {line.split(">=")[0].split("==")[0] for line in lines if line}
    required = {line.split()[1].split(">=")[0].split("==")[0].split("<")[0].rstrip(";,")
                for line in metadata.splitlines() if line.startswith("Requires-Dist:")}
    assert required == wanted


def test_detector_is_imported_from_the_installed_package(installed: Installed) -> None:
    code = ("import ssd_lib, sys; from ssd_lib import Detector; print(ssd_lib.__file__); "
            "print(Detector('ssd.pt', 'cpu', threshold=0.0, top_k=1)('a.png').names)")
    done = installed.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    path, names = done.stdout.splitlines()
    assert Path(path).is_relative_to(installed.bin.parent)
    assert names in ("('dog',)", "('kite',)")


def test_the_command_ssd_works(installed: Installed) -> None:
    assert installed.run("ssd", "--help").stdout.startswith("usage: ssd [-h] COMMAND ...")
    shown = installed.run("ssd", "checkpoint", "show", "last.pt").stdout
    assert "position: {complete_epochs: 1, of: 5, step: 0}" in shown
    assert "classes: [dog, kite]" in shown
    done = installed.run("ssd", "detect", "a.png", "--model", "ssd.pt", "--device", "cpu", "--threshold", "0.1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("a.png: ")
    assert (installed.folder / "detections/a.jpg").is_file()
