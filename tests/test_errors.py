"""Messages of one line, and which exceptions say that memory ran out."""

import errno
import mmap
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from ssd_lib.errors import InputError, StateError, first_line, is_out_of_memory, memory_as_state_error, visible, visible_lines


@pytest.mark.parametrize(("error", "line"), [
    (ValueError("one"), "one"), (RuntimeError("one\ntwo\r\nthree"), "one"), (EOFError(), "EOFError"),
    (RuntimeError("Exception from src/core.cpp:84:\nCheck 'ok' failed at src/model.cpp:219:\nStart-end tags mismatch\n\n"),
     "Start-end tags mismatch")])
def test_the_first_line_is_the_message_s_or_else_the_name_of_the_class(error: Exception, line: str) -> None:
    assert first_line(error) == line


@pytest.mark.parametrize("allocate", [
    lambda: bytearray(1 << 60), lambda: np.empty(1 << 55), lambda: torch.empty(1 << 50), lambda: mmap.mmap(-1, 1 << 60),
    lambda: cv2.copyMakeBorder(np.zeros((1, 1, 3), np.float64), 0, (1 << 24) - 1, 0, (1 << 24) - 1, cv2.BORDER_CONSTANT)],
    ids=["Python", "NumPy", "torch", "the kernel", "OpenCV"])
def test_a_failed_allocation_of_any_library_is_a_message(allocate: Callable[[], Any]) -> None:
    with pytest.raises(StateError, match=r"^memory ran out \(.+\)\. Close other programs"), memory_as_state_error():
        allocate()


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), RuntimeError("std::bad_alloc"),
    RuntimeError("could not create a primitive"), RuntimeError("can't start new thread"),
    RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 9"),
    ImportError("libtorch_cpu.so: failed to map segment from shared object"), OSError(errno.ENOMEM, "Cannot allocate memory")])
def test_what_libraries_say_of_memory_is_known(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [
    InputError("a.jpg: out of memory"), StateError("out of memory"), ValueError("bad"), OSError(errno.ENOSPC, "No space left"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"), KeyboardInterrupt()])
def test_other_errors_are_none_of_memory(error: BaseException) -> None:
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)), memory_as_state_error():
        raise error


@pytest.mark.parametrize(("text", "shown"), [
    ("red \x1b[31mcar\x07", "red \\x1b[31mcar\\x07"), ("two\nlines\ttab", "two\\nlines\\ttab"), ("\ud800", "\\ud800"),
    ("abc\u202edcba", "abc\\u202edcba"), ("caf\u00e9 \u732b", "caf\u00e9 \u732b"),
    ("\U0001f469\u200d\U0001f680", "\U0001f469\u200d\U0001f680"),
    ("\x1b" * 100, "\\x1b\\x\u2026b\\x1b\\x1b\\x1b"), ("x" * 100_000 + "end", "xxxxxx\u2026xxxxxxxxxxend")])
def test_text_of_data_is_shown_on_one_line_without_what_a_terminal_interprets(text: str, shown: str) -> None:
    assert visible(text, 20) == shown
    shown.encode()


def test_a_message_keeps_its_lines_but_none_is_endless() -> None:
    lines = visible_lines("a\x1b\n" + "b" * 10_000).split("\n")
    assert lines[0] == "a\\x1b"
    assert len(lines[1]) == 2000
