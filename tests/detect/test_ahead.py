import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from ssd_lib.detect.ahead import map_ahead, read_ahead

WAIT_S = 20  # a test that would wait for ever fails instead


def numbers(end: int, taken: list[int]) -> Iterator[int]:
    for number in range(end):
        taken.append(number)
        yield number


@pytest.mark.parametrize(("ahead", "threads"), [(0, 1), (1, 1), (3, 2), (100, 4)])
def test_results_are_those_of_map_in_order(ahead: int, threads: int) -> None:
    assert list(map_ahead(lambda number: number ** 2, range(50), ahead, threads)) == [number ** 2 for number in range(50)]
    assert list(read_ahead(iter(range(50)), ahead)) == list(range(50))
    assert list(map_ahead(str, [], ahead, threads)) == list(read_ahead([], ahead)) == []


def test_a_slow_item_does_not_let_later_ones_pass() -> None:
    done = threading.Event()

    def slow_at_first(number: int) -> int:
        assert number or done.wait(WAIT_S)  # item 0 ends after item 1
        if number == 1:
            done.set()
        return number

    assert list(map_ahead(slow_at_first, range(4), 2, 2)) == [0, 1, 2, 3]


def test_items_are_computed_before_they_are_asked_for_but_not_more_than_allowed() -> None:
    taken: list[int] = []
    enough = threading.Event()

    def note(number: int) -> int:
        if number == 3:
            enough.set()
        return number

    with closing(read_ahead(map(note, numbers(100, taken)), 3)) as items:
        assert next(items) == 0
        assert enough.wait(WAIT_S)  # nobody asks for it
        assert next(items) == 1
        assert len(taken) <= 1 + 4 + 1
    taken.clear()
    with closing(map_ahead(str, numbers(100, taken), 5, 2)) as results:
        assert [next(results), next(results)] == ["0", "1"]
        assert len(taken) == 2 + 5


def test_an_error_is_raised_after_the_results_before_it() -> None:
    def broken() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the camera was unplugged")

    for results in (read_ahead(broken(), 4), map_ahead(str, broken(), 4), map_ahead(str, read_ahead(broken(), 4), 4, 2),
                    map_ahead(lambda number: 6 // (3 - number), iter([1, 2, 3]), 4, 2)):
        seen: list[object] = []
        with pytest.raises((OSError, ZeroDivisionError)):
            seen.extend(results)
        assert len(seen) == 2


def test_what_waits_when_it_is_closed_is_not_computed() -> None:
    computed: list[int] = []

    def compute(number: int) -> None:
        time.sleep(0.02)
        computed.append(number)

    with closing(map_ahead(compute, range(100), 99)) as results:
        next(results)
    assert len(computed) < 100


def test_once_closed_nothing_runs_and_nothing_more_is_taken() -> None:
    taken: list[int] = []
    frames, running = numbers(10**9, taken), threading.active_count()
    with closing(read_ahead(frames, 4)) as decoded, closing(read_ahead(map(str, decoded), 4)) as found:
        assert next(found) == "0"
        assert threading.active_count() == running + 2
    assert threading.active_count() == running
    before = len(taken)
    assert next(frames) == before  # no thread is in the generator any more
