"""Another process at work at the same moment, as a thread with a database connection of its own."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from django.db import connection

T = TypeVar("T")


def meanwhile(act: Callable[[], T], *, seconds: float = 0.3) -> "Future[T]":
    """Begin `act` beside the caller, whose transaction may be open, and return its future.

    Returns when `act` has ended, or after `seconds`, in which it came as far as locks let it. Ask for its result once
    the caller's transaction has ended.
    """

    def run() -> T:
        try:
            return act()
        finally:
            connection.close()

    pool = ThreadPoolExecutor(max_workers=1)
    begun = pool.submit(run)
    pool.shutdown(wait=False)
    wait([begun], timeout=seconds)
    return begun
