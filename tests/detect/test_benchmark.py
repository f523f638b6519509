"""`ssd benchmark` on files of two nodes; it starts a process for each of them."""

import csv
from pathlib import Path

import pytest
from support.onnx_files import ABOUT, constant_file

from ssd_lib.cli import main
from ssd_lib.detect import benchmark
from ssd_lib.detect.benchmark import (
    BATCHES,
    LEAST_ROUNDS,
    ROUNDS,
    Row,
    busy_note,
    markdown,
    model_files,
    split_by_package,
    take_turns,
)
from ssd_lib.detect.file_processes import format_of
from ssd_lib.errors import StateError


def test_cases_take_turns() -> None:
    calls: list[str] = []

    def case(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    results = take_turns({name: lambda name=name: case(name) for name in "ab"})  # type: ignore[misc]
    assert calls == ["a", "b"] * ROUNDS
    assert results == {"a": [float(i) for i in range(1, 2 * ROUNDS, 2)], "b": [float(i) for i in range(2, 2 * ROUNDS + 1, 2)]}


def test_a_limit_of_time_leaves_the_least_rounds() -> None:
    assert len(take_turns({"a": lambda: 1.0}, limit_s=-1)["a"]) == LEAST_ROUNDS


def test_a_table_leaves_out_what_is_not_known() -> None:
    row = Row("a.onnx", "ONNX Runtime", "int8", "cpu", 2, 8, None, 12.34, 56.78, 3.5, None)
    assert markdown([row]).splitlines()[2] == "| a.onnx | ONNX Runtime | int8 | cpu | 2 | 8 |  | 12.3 | 56.8 | 3.5 |  |"


def test_a_folder_stands_for_all_its_files_and_a_file_for_itself(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("ssd.pt", "ssd.onnx", "dynamic_batch/ssd.onnx", "int8/ssd.onnx", "openvino/ssd.xml",
                                          "ncnn/ssd.param", "litert/ssd.tflite")]
    for path in files:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "int8/tensorrt.onnx").write_bytes(b"")
    assert model_files(tmp_path) == files
    assert model_files(files[1]) == [files[1]]
    assert [model_files(path.parent) for path in files[4:]] == [[path] for path in files[4:]]
    assert [format_of(path) for path in files] == ["PyTorch", *["ONNX Runtime"] * 3, "OpenVINO", "ncnn", "LiteRT"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(StateError, match=r"empty: no model is in this folder"):
        model_files(tmp_path / "empty")


def test_a_table_of_all_files_is_printed_and_written(project: Path, capsys: pytest.CaptureFixture[str],
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "ROUNDS", 2)
    for name, precision in (("ssd.onnx", "fp32"), ("int8/ssd.onnx", "int8")):
        constant_file(project / "made" / name, ABOUT | {"precision": precision})
    assert main(["benchmark", "made", "--csv", "table.csv"]) == 0
    printed = capsys.readouterr().out
    assert "AP on 3 validation images" in printed
    rows = list(csv.DictReader((project / "table.csv").open()))
    assert [(row["file"], row["precision"], int(row["batch"])) for row in rows] == [
        (name, precision, batch) for name, precision in (("made/ssd.onnx", "fp32"), ("made/int8/ssd.onnx", "int8"))
        for batch in BATCHES]
    assert all(float(row["ms_p95"]) >= float(row["ms"]) > 0 and 0 <= float(row["AP"]) <= 1 for row in rows)
    assert f"| {' | '.join(Row._fields)} |" in printed
    assert printed.count("| made/ssd.onnx | ONNX Runtime | fp32 | cpu |") == len(BATCHES)


def test_a_quick_measurement_is_a_line_and_times_without_ap(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    constant_file(project / "made/ssd.onnx", ABOUT)
    assert main(["benchmark", "made", "--quick", "--csv", "table.csv"]) == 0
    row, = csv.DictReader((project / "table.csv").open())
    assert (row["file"], row["batch"], row["AP"]) == ("made/ssd.onnx", "1", "")
    assert capsys.readouterr().out.splitlines()[1] == f"benchmark: ms an image: {float(row['ms']):.1f} made/ssd.onnx"


def test_a_runtime_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "missing_package", lambda name, to_write: "a-package" if name == "ncnn" else "")
    onnx, ncnn = Path("models/ssd.onnx"), Path("models/ncnn/ssd.param")
    assert split_by_package([onnx, ncnn]) == (
        [onnx], f"\n{ncnn} is left out, ncnn is not installed: `pip install a-package`")
    assert split_by_package([onnx]) == ([onnx], "")
    assert split_by_package([ncnn]) == ([ncnn], "")  # Detector says what is missing then


def test_a_busy_machine_is_told() -> None:
    assert busy_note(1.9, 2) == ""
    assert busy_note(0.94, 2).startswith("\nWARNING 0.9 of 2 CPU cores were free")


def test_a_damaged_file_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.onnx").write_bytes(b"damaged")
    assert main(["benchmark", str(tmp_path / "a.onnx")]) == 1
    printed = capsys.readouterr()
    assert printed.out == "benchmark: loads 1 file and measures in turns\n"
    assert printed.err.startswith(f"ERROR {tmp_path / 'a.onnx'}: not an exported detector of this project")
    assert len(printed.err.splitlines()) == 1
