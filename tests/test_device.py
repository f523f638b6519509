"""Device: auto, existing devices, and names that are refused."""

import pytest
import torch

from ssd_lib.device import pick_device, pick_precision
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


@pytest.mark.parametrize(("name", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_a_named_precision_is_used(name: str, expected: torch.dtype) -> None:
    assert pick_precision(name, torch.device("cpu")) == expected


def test_auto_precision_on_a_cpu_is_fp32_or_bf16() -> None:
    assert pick_precision("auto", torch.device("cpu")) in (torch.float32, torch.bfloat16)
