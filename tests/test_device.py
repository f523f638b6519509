"""Device: auto, existing devices, and names that are refused."""

import pytest
import torch

from ssd_lib.device import choose_threads, pick_device, pick_precision, pick_threads
from ssd_lib.errors import InputError, StateError


def test_auto_takes_the_gpu_if_there_is_one() -> None:
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_cpu_always_exists() -> None:
    assert pick_device("cpu") == torch.device("cpu")


def test_a_missing_device_is_named() -> None:
    with pytest.raises(StateError, match=r"device 'cuda:99' does not exist.*Set runtime.device \(or --device\) to auto"):
        pick_device("cuda:99")


@pytest.mark.parametrize("name", ["foo", "meta", "cuda:x"])
def test_an_invalid_device_is_reported(name: str) -> None:
    with pytest.raises(InputError, match=rf"device is '{name}'; it must be auto, cpu, cuda or cuda:1"):
        pick_device(name)


@pytest.mark.parametrize(("begun", "free", "cores", "threads", "said"), [
    (0, 7.6, 8, 8, ""),
    (0, 4.4, 8, 4, "the machine is busy: 4.4 of 8 CPU core"),
    (0, 0.1, 2, 1, "the machine is busy"),
    (4, 8.0, 8, 4, ""),
    (8, 2.0, 2, 8, "keeps the 8 threads that it began with, for the same bits. If it is slow, set runtime.threads: 2"),
], ids=["idle", "half busy", "full", "a run goes on with fewer", "a run goes on with more"])
def test_auto_takes_the_free_cores_and_a_run_keeps_its_number(begun: int, free: float, cores: int, threads: int,
                                                              said: str) -> None:
    number, text = choose_threads(begun, free, cores)
    assert number == threads
    assert said in text
    assert bool(said) == bool(text)


def test_threads_that_the_user_asks_for_win_and_other_bits_are_told(monkeypatch: pytest.MonkeyPatch,
                                                                    caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert pick_threads("auto", begun=0, processes=4) == 3
    assert pick_threads(5, begun=5, processes=1) == 5
    assert caplog.text == ""
    assert pick_threads("auto", begun=2, processes=1) == 3
    assert "the run began with 2 thread(s) and goes on with 3" in caplog.text


@pytest.mark.parametrize(("name", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_a_named_precision_is_used(name: str, expected: torch.dtype) -> None:
    assert pick_precision(name, torch.device("cpu")) == expected


def test_auto_precision_on_a_cpu_is_fp32_or_bf16() -> None:
    assert pick_precision("auto", torch.device("cpu")) in (torch.float32, torch.bfloat16)
