"""Locks and leases, by ``flock``: what a dead process held falls by itself.

Guarantees: at most one process writes the lake at a time; a Lance version that a living reader has leased is
never cleaned up. A lease is a locked file that names table versions. It is locked *before* it gets its final name,
so a lease that can be seen and can be locked belongs to a dead process.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from drystone.errors import Busy, StateUnavailable


@contextmanager
def locked(path: Path, wait_s: float) -> Iterator[None]:
    """Hold the lock file ``path`` alone. Raises ``Busy`` after ``wait_s`` seconds."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait_s
    try:
        while not _try(fd):
            if time.monotonic() > deadline:
                raise Busy(
                    "Another process is writing the lake.",
                    looked=f"We waited {wait_s:g} s for {path.name}.",
                    todo="Wait for it to end, or raise ingest.lock_wait_s.",
                )
            time.sleep(0.005)
        yield
    finally:
        os.close(fd)  # which releases it


class Lease:
    """Keeps table versions from clean-up until ``close`` or the end of the process."""

    def __init__(self, folder: Path, versions: Mapping[str, int]) -> None:
        name = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._path = folder / f"{name}.lease"
        hidden = folder / f"{name}.new"
        try:
            self._fd = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            os.write(self._fd, json.dumps(dict(versions)).encode())
            os.rename(hidden, self._path)
        except OSError as error:
            raise StateUnavailable(
                "A reader could not take its lease.",
                looked=f"We wrote to {folder}: {error.strerror}.",
                todo="Free space or give this process the right to write there.",
            ) from error

    def close(self) -> None:
        if self._fd >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1


def leased(folder: Path) -> tuple[dict[str, set[int]], int]:
    """Versions by table that living readers hold, and how many leases of dead processes were removed."""
    held: dict[str, set[int]] = {}
    fallen = 0
    for path in folder.iterdir():
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # closed while we listed
        try:
            if not _try(fd):
                for table, version in json.loads(os.read(fd, 1 << 20) or b"{}").items():
                    held.setdefault(table, set()).add(version)
            elif path.suffix == ".lease" or time.time() - os.fstat(fd).st_mtime > 60:  # a new one is locked soon
                path.unlink(missing_ok=True)
                fallen += 1
        finally:
            os.close(fd)
    return held, fallen


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
