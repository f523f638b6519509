"""`ssd benchmark`: AP, time, size and memory of a model's files on this machine, in one table.

Each file is loaded by a process of its own, which detects as `Detector` does, with the same number of threads. The processes
take turns, so that whatever else the machine does slows down all alike.
"""

import csv
import io
import logging
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ssd_lib.boxes.selection import Selected
from ssd_lib.detect.detector import Detector
from ssd_lib.detect.fastest import MODEL_NAME, ONNX_NAMES
from ssd_lib.detect.file_processes import Ask, Loaded, format_of, processes_of
from ssd_lib.errors import StateError, plural
from ssd_lib.export.packages import missing_package
from ssd_lib.export.runtimes import RUNTIMES
from ssd_lib.files import write_text
from ssd_lib.images import read_image
from ssd_lib.manifest import FIXED_FOLDER
from ssd_lib.processes import available_cores, free_cores

if TYPE_CHECKING:
    from ssd_lib.evaluate.validation_ap import SplitImages

BATCHES = (1, 8)
ROUNDS, LEAST_ROUNDS = 40, 3
TIMING_S, AP_S = 60.0, 60.0  # limits of the two parts; LEAST_ROUNDS are always made
QUICK_S = 4.0  # limit of the only part of a quick measurement
AP_IMAGES = 500  # at most
REST_S = 0.05  # before a turn: the threads of the process before it spin for some milliseconds, which keeps a core busy
MOST_BUSY = 0.5  # cores that others may use without a warning
IMAGE_SHAPE = (480, 640, 3)  # of made images, if there are no validation images
INSTRUCTIONS = {"avx512_vnni": "AVX512-VNNI", "avx_vnni": "AVX-VNNI", "avx2": "AVX2"}  # they decide the speed of INT8
log = logging.getLogger(__name__)


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        file: path of the model file.
        format: what computes it.
        precision: "fp32" | "int8".
        device: "cpu" | "cuda".
        threads: that compute on a CPU.
        batch: images in a call.
        AP: on validation images; None if it was not measured.
        ms, ms_p95: of an image, from pixels to objects: median and 95th percentile.
        MB: size of the file, with those that belong to it.
        memory_MB: the peak of its process; None where the system does not say.
    """

    file: str
    format: str
    precision: str
    device: str
    threads: int
    batch: int
    AP: float | None
    ms: float
    ms_p95: float
    MB: float
    memory_MB: float | None  # noqa: N815 (the unit is written so)


def run(model: Path, csv_path: Path | None, device: str, quick: bool) -> str:
    """Measure a model and return a Markdown table, or a line if it is to be quick.

    Args:
        model: a model file, or a folder, all of whose files are measured.
        csv_path: where to write the table as CSV, too.
        device: as for `Detector`.
        quick: only one image in a call, for QUICK_S seconds, and no AP.

    Raises:
        StateError: there is no model, or the device is missing.
        InputError: a file is damaged.
    """
    busy = busy_note(free_cores(), available_cores())
    files, left_out = split_by_package(model_files(model))
    log.info("benchmark: loads %s and measures in turns", plural(len(files), "file"))
    with processes_of(files, device, max(BATCHES)) as loaded:
        rows = _timed(loaded, BATCHES[:1] if quick else BATCHES, QUICK_S if quick else TIMING_S)
        aps, sentence = ({}, "") if quick else _aps(loaded, {row.file: row.ms / 1000 for row in rows if row.batch == 1})
    rows = [row._replace(AP=aps.get(row.file)) for row in rows]
    if csv_path:
        write_csv(csv_path, rows)
    if quick:
        return f"benchmark: ms an image: {', '.join(f'{row.ms:.1f} {row.file}' for row in rows)}{left_out}{busy}"
    return f"{_about_machine()}{left_out}{busy}\n{sentence}\n\n{markdown(rows)}"


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as a table."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([Row._fields, *rows])
    write_text(path, text.getvalue())


def model_files(model: Path) -> list[Path]:
    """Return the file, or the model files of a folder.

    Raises:
        StateError: the folder has none.
    """
    firsts = [(name, row.files[0]) for name, row in RUNTIMES.items()]
    names = [MODEL_NAME, *reversed(ONNX_NAMES), *(f"{name}/{file}" for name, file in firsts), *(file for _, file in firsts)]
    files = [path for path in map(model.joinpath, names) if path.is_file()]
    if model.is_dir() and not files:
        raise StateError(f"{model}: no model is in this folder; {MODEL_NAME}, {' or '.join(ONNX_NAMES)} is needed. `dvc repro` "
                         "makes them.")
    return files if model.is_dir() else [model]


def split_by_package(files: Sequence[Path]) -> tuple[list[Path], str]:
    """Return the files of a folder whose runtimes are installed, and lines about the others; all files if none is."""
    packages = {Path(row.files[0]).suffix: missing_package(name, to_write=False) for name, row in RUNTIMES.items()}
    missing = {path: package for path in files if (package := packages.get(path.suffix))}
    if len(missing) == len(files):
        return list(files), ""
    lines = (f"\n{path} is left out, {format_of(path)} is not installed: `pip install {package}`"
             for path, package in missing.items())
    return [path for path in files if path not in missing], "".join(lines)


def _megabytes(path: Path) -> float:
    """Return the size of a model file, and of those beside it that belong to it."""
    files = {row.files[0]: row.files for row in RUNTIMES.values()}.get(path.name, (path.name,))
    return sum((path.parent / name).stat().st_size for name in files) / 1e6


def busy_note(free: float, cores: int) -> str:
    """Return a line about a machine that does other things, too; "" for an idle one."""
    return "" if free > cores - MOST_BUSY else (f"\nWARNING {max(0, free):.1f} of {cores} CPU cores were free: the times are "
                                                "longer than on an idle machine.")


def take_turns(cases: dict[Any, Callable[[], float]], limit_s: float = TIMING_S) -> dict[Any, list[float]]:
    """Call all cases in turn until each has `ROUNDS` results, or `limit_s` seconds are over and each has `LEAST_ROUNDS`."""
    results: dict[Any, list[float]] = {name: [] for name in cases}
    begin = time.perf_counter()
    for count in range(ROUNDS):
        if count >= LEAST_ROUNDS and time.perf_counter() - begin > limit_s:
            break
        for name, case in cases.items():
            results[name].append(case())
    return results


def _timed(loaded: "dict[Path, Loaded]", batches: Sequence[int], limit_s: float) -> list[Row]:
    """Return a row for each file and number of images in a call, without AP."""
    shown = _timed_images(max(batches))
    times = take_turns({(path, batch): _timer(one.ask, shown[:batch]) for path, one in loaded.items() for batch in batches},
                       limit_s)
    memory = {path: one.ask(_peak_memory_mb) for path, one in loaded.items()}
    return [Row(path.as_posix(), format_of(path), one.precision, one.device, one.threads, batch, None,
                *_milliseconds(times[path, batch]), _megabytes(path), memory[path])
            for path, one in loaded.items() for batch in batches]


def markdown(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table."""
    lines = [" | ".join(Row._fields), " | ".join("---" for _ in Row._fields), *(" | ".join(map(_text, row)) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _milliseconds(seconds: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 95th percentile."""
    return 1000 * float(np.median(seconds)), 1000 * float(np.percentile(seconds, 95))


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) and value < 1 else (
        f"{value:.1f}" if isinstance(value, float) else str(value))


def _timer(ask: Ask, images: list[np.ndarray]) -> Callable[[], float]:
    return lambda: float(ask(_seconds_an_image, images))


def _seconds_an_image(detector: Detector, images: list[np.ndarray]) -> float:
    time.sleep(REST_S)
    detector(images[:1])  # what ran before has filled the caches
    begin = time.perf_counter()
    detector(images)
    return (time.perf_counter() - begin) / len(images)


def _peak_memory_mb(_: Detector) -> float | None:
    """Return the peak of this process's resident memory; None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM")), None)


def _timed_images(count: int) -> list[np.ndarray]:
    """Return images for `_seconds_an_image`: of the validation split, or made ones."""
    images = _validation_images(count)
    paths = images.paths if images else ()
    random = np.random.default_rng(0)
    made = [random.integers(0, 256, IMAGE_SHAPE, dtype=np.uint8) for _ in range(count)]
    return [*map(read_image, paths), *made][:count]


def _validation_images(limit: int) -> "SplitImages | None":
    if not (FIXED_FOLDER / "val.npz").is_file():
        return None
    from ssd_lib.evaluate.validation_ap import split_images  # it imports torch, which a device with an ONNX file may lack

    return split_images("val", limit)


def _aps(loaded: dict[Path, Loaded], seconds: dict[str, float]) -> tuple[dict[str, float | None], str]:
    """Return the AP of each file, given its seconds for an image, and a sentence on the images, or on why it is unknown."""
    images = _validation_images(max(1, min(AP_IMAGES, int(AP_S / sum(seconds.values())))))
    if not images:
        return {}, "AP: not measured, the validation images are not on this machine"
    from ssd_lib.evaluate.validation_ap import average_precision

    known = {path: one for path, one in loaded.items() if one.class_names == images.fixed.class_names}
    found = {path.as_posix(): average_precision(images, one.ask(_detect_files, images.paths)) for path, one in known.items()}
    others = "" if len(known) == len(loaded) else "; a model of other classes has none"
    return found, f"AP on {len(images.paths)} validation images{others}"


def _detect_files(detector: Detector, paths: Sequence[Path]) -> list[Selected]:
    """Return what AP is computed from: the detections above the model's own threshold, lower than that for display."""
    results = []
    for pixels, found in Detector(detector.path, detector.device, threshold=None).stream(paths):
        height, width = pixels.shape[:2]
        sides = np.array([width, height, width, height], np.float32)
        results.append(Selected(found.boxes / sides, found.labels, found.scores))
    return results


def _about_machine() -> str:
    """Return the processor, its cores and the versions of what computes."""
    cores = available_cores()
    return (f"{_processor()}, {cores} core{'s' * (cores > 1)}, {_version('torch')}, {_version('onnxruntime')}\n"
            "ms: an image, from pixels to objects with NMS, median and 95th percentile of calls in turns; memory_MB: peak of a "
            "process")


def _processor() -> str:
    """Return the name of the processor, and the best of `INSTRUCTIONS` that it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = found.get("flags", "").split()
    kind = next((name for flag, name in INSTRUCTIONS.items() if flag in flags), "")
    return f"{found.get('model name', platform.machine())}{f' with {kind}' * bool(kind)}"


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"
