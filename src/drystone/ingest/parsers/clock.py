"""How much of a document's time is used up: of the clock's and of the CPU's, whichever runs faster.

A worker's CPU time is bounded too, and engines use several cores at once.
"""

from __future__ import annotations

import time

from drystone.errors import ParseFailed

SHARE = 0.8  # the rest is for what has begun, and for putting the text together


def later(slow: str, size: int, most: int) -> None:
    """Leave a document of more than ``most`` bytes to the parser ``slow``, where one is named: it has more time."""
    if slow and size > most:
        raise ParseFailed("It is large, and read where there is more time.", kind="slow")


class Clock:
    def __init__(self, seconds: float) -> None:
        self._wall = time.monotonic() + SHARE * seconds
        self._cpu = time.process_time() + SHARE * seconds

    @property
    def over(self) -> bool:
        return time.monotonic() > self._wall or time.process_time() > self._cpu
