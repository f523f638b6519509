"""The predecessor's combo checkpoints: weights and epoch are read, and nothing is executed."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from support.kaboom import SCHEDULERS, write_kaboom
from torch import nn

from ssd_lib.checkpoint.kaboom import read_kaboom
from ssd_lib.errors import InputError


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=["cosine", "multistep"])
@pytest.mark.parametrize("prefix", ["", "module."], ids=["one GPU", "DataParallel"])
def test_weights_and_epoch_are_read(tmp_path: Path, scheduler: Any, prefix: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    path = write_kaboom(tmp_path / "COMBO_CHECKPOINT_mb2-ssd-lite-Epoch-41-Loss-2.5.pth", net, 41, scheduler, prefix)
    with pytest.raises(Exception, match="Unsupported global"):
        torch.load(path, weights_only=True)
    found = read_kaboom(path)
    assert found.epochs == 42
    assert list(found.weights) == list(net.state_dict())
    assert all(torch.equal(found.weights[key], value) for key, value in net.state_dict().items())


class _Malice:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def _touches(path: Path) -> list[_Malice]:
    return [_Malice(os.system, f"touch {path}"), _Malice(Path.touch, path), _Malice(exec, f"open({str(path)!r}, 'w')"),
            _Malice(eval, f"open({str(path)!r}, 'w')"), _Malice(open, str(path), "w")]


@pytest.mark.parametrize("kind", range(5), ids=["system", "touch", "exec", "eval", "open"])
@pytest.mark.parametrize("place", ["scheduler", "weights", "epoch"])
def test_nothing_is_executed(tmp_path: Path, kind: int, place: str) -> None:
    content: dict[str, Any] = {"epoch": 3, "weights": {"a": torch.zeros(2)}, "scheduler": None}
    content[place] = _touches(tmp_path / "executed")[kind]
    torch.save(content, tmp_path / "bad.pth")
    with suppress(InputError):
        assert read_kaboom(tmp_path / "bad.pth").epochs == 4
        assert place == "scheduler"
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [{"epoch": 1}, {"weights": {}, "epoch": 1}, [1, 2], {"epoch": 1, "weights": {"a": 5}}])
def test_what_is_something_else_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(InputError, match="not a combo checkpoint of kaboom-labs"):
        read_kaboom(tmp_path / "x.pth")
