"""One ingestion of a source at a time, across threads and processes.

Guarantees: the lock is the kernel's (``flock`` on a file of the state folder), so a process that dies gives it up.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from drystone.errors import Busy


def hold(state: Path, source: str, wait_s: float) -> Callable[[], None]:
    """Wait for the source's lock; returns what gives it up. Raises ``Busy``."""
    folder = state / "locks"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(folder / f"ingest-{source.encode().hex()[:200]}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(handle)
                raise Busy(
                    f"Another process is ingesting the source {source!r}.",
                    looked=f"We waited {wait_s:g} s (ingest.lock_wait_s).",
                    todo="Try again when it is done.",
                ) from None
            time.sleep(0.02)
    open_handles = [handle]

    def release() -> None:
        while open_handles:
            os.close(open_handles.pop())

    return release
