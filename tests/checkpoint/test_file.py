"""Guarantees: at every instant, whatever stops the writer, the latest checkpoint or the one before is whole, in both places."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint.conftest import Make, Places

from ssd_lib.checkpoint.file import BEST, LAST, PREVIOUS, ComboCheckpoint, read_checkpoint
from ssd_lib.errors import InputError, StateError

CALLS = ("replace", "link", "fsync", "unlink", "open")  # of `os`: all that a save does to the disk beside writing bytes


def _at_call(number: int, action: Callable[[], None], done_first: bool = False) -> None:
    """Patch `os`: at the `number`-th of CALLS the action comes instead of it, or after it."""
    count = iter(range(1, 10_000))

    def patched(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            now = next(count) == number
            if now and not done_first:
                action()
            try:
                return real(*args, **kwargs)
            finally:
                if now and done_first:
                    action()
        return call
    for name in CALLS:
        setattr(os, name, patched(getattr(os, name)))


def _save_and_die(places: Places, checkpoint: ComboCheckpoint, number: int, done_first: bool) -> None:
    _at_call(number, lambda: os._exit(9), done_first)
    places.save(checkpoint, is_best=True)
    os._exit(0)


def _whole(folder: Path) -> list[tuple[int, int]]:
    """Return the positions in a folder; every file that has its final name must be readable."""
    return [read_checkpoint(folder / name).position for name in (LAST, PREVIOUS) if (folder / name).exists()]


@pytest.mark.parametrize("done_first", [False, True], ids=["before", "after"])
def test_a_writer_that_dies_at_any_call_loses_nothing(places: Places, make: Make, done_first: bool) -> None:
    places.save(make(step=1))
    for number in range(1, 100):
        places.save(make(step=2), is_best=True)
        process = get_context("fork").Process(target=_save_and_die, args=(places, make(step=3, best=0.9), number, done_first))
        process.start()
        process.join(60)
        for folder in places:
            assert max(_whole(folder)) in ((1, 2), (1, 3)), f"call {number}, {folder.name}"
            if read_checkpoint(folder / LAST).best == 0.9:
                assert read_checkpoint(folder / BEST).step == 3, f"call {number}, {folder.name}: best.pt lags behind"
        if process.exitcode == 0:
            break
        assert process.exitcode == 9
    assert number > 10, "so many calls a save has at least"
    assert max(_whole(places.folder)) == max(_whole(places.resume_dir)) == (1, 3)


def test_a_disk_that_fails_at_any_call_loses_nothing(places: Places, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        failed.append(True)
        raise OSError(errno.ENOSPC, "No space left on device")
    places.save(make(step=1))
    for number in range(1, 100):
        places.save(make(step=2))
        failed: list[bool] = []
        with monkeypatch.context() as patch:
            for name in CALLS:  # so that they are put back
                patch.setattr(os, name, getattr(os, name))
            _at_call(number, fail)
            with suppress(StateError):
                places.save(make(step=3))
        for folder in places:
            assert max(_whole(folder)) in ((1, 2), (1, 3)), f"call {number}, {folder.name}"
        if not failed:
            break
    assert number > 10


def test_what_is_saved_is_read_back(places: Places, make: Make) -> None:
    places.save(make(step=1), is_best=True)
    places.save(make(step=2))
    back = read_checkpoint(places.folder / LAST)
    assert back.position == (1, 2)
    assert torch.equal(back.weights["w3"], torch.full((200,), 2.0))
    assert {**vars(back), "weights": 0, "totals": 0} == {**vars(make(step=2)), "weights": 0, "totals": 0}
    assert [read_checkpoint(places.folder / name).step for name in (PREVIOUS, BEST)] == [1, 1]
    for name in (LAST, PREVIOUS, BEST):
        assert (places.folder / name).samefile(places.resume_dir / name)


def test_a_file_cut_anywhere_is_refused_in_one_line(places: Places, make: Make) -> None:
    places.save(make())
    whole = (places.folder / LAST).read_bytes()
    cut = places.folder / "cut.pt"
    for percent in range(100):
        cut.write_bytes(whole[:len(whole) * percent // 100])
        with pytest.raises(InputError) as caught:
            read_checkpoint(cut)
        assert str(caught.value).startswith(f"{cut}: not a combo checkpoint"), percent
        assert "\n" not in str(caught.value)


def test_a_flipped_bit_never_changes_a_value_unseen(places: Places, make: Make) -> None:
    places.save(make())
    whole = (places.folder / LAST).read_bytes()
    flipped = places.folder / "flipped.pt"
    refused = 0
    for place in range(0, len(whole), max(1, len(whole) // 400)):
        content = bytearray(whole)
        content[place] ^= 0x10
        flipped.write_bytes(content)
        try:
            back = read_checkpoint(flipped)
        except InputError:
            refused += 1
        else:  # in a comment or the padding of the archive
            assert all(torch.equal(back.weights[key], value) for key, value in make().weights.items())
            assert (back.position, back.history, back.params) == ((1, 2), make().history, make().params)
    assert refused > 200


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"<!doctype html>", b"\x80\x02}q\x00."],
                         ids=["empty", "zip", "HTML", "pickle"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a combo checkpoint of this project"):
        read_checkpoint(path)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    class Malice:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))
    torch.save({"format": "ssd-combo-1", "weights": Malice()}, tmp_path / "bad.pt")
    with pytest.raises(InputError, match="not a combo checkpoint"):
        read_checkpoint(tmp_path / "bad.pt")
    assert not (tmp_path / "executed").exists()
