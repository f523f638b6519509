"""Compute the items of an iterator in threads before they are asked for, in order.

Without it, decoding, net and encoding would take turns. OpenCV and ONNX Runtime release the interpreter while they compute, so
threads of one process use all cores.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import repeat
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
END = object()


def map_ahead(function: Callable[[Item], Result], items: Iterable[Item], ahead: int,
              threads: int = 1) -> Generator[Result, None, None]:
    """Yield function(item) of each item, in order; threads compute those of the next `ahead` items meanwhile.

    Guarantees: the results of `map`, and its exceptions after the same results; `items` is consumed where the results are. At
    most `ahead` results wait. Once it is closed, no function runs: close it (`contextlib.closing`) before anything that the
    function uses.

    Args:
        function: may be called by several threads at the same time if `threads` is above 1.
        items: from which at most `ahead` + 1 more are taken than results are given.
        ahead: 0 computes an item when its result is asked for.
        threads: that call the function; 1 calls it in order.
    """
    pool, waiting, remaining = ThreadPoolExecutor(threads), deque[Future[Result]](), iter(items)
    try:
        while True:
            try:
                item = next(remaining)
            except Exception as error:
                yield from (future.result() for future in waiting)
                if isinstance(error, StopIteration):
                    return
                raise
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def read_ahead(items: Iterable[Item], ahead: int) -> Generator[Item, None, None]:
    """Yield the items; a thread of its own takes up to `ahead` of them meanwhile. Guarantees: as `map_ahead`."""
    remaining = iter(items)
    taken: Generator[object, None, None] = map_ahead(lambda _: next(remaining, END), repeat(None), ahead)
    try:
        for item in taken:
            if item is END:
                return
            yield item  # type: ignore[misc]
    finally:
        taken.close()
