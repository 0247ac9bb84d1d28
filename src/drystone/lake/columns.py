"""Columns kept in memory, by table version: where each number lies, and the digests' first bytes.

Guarantees: positions are those of exactly the version asked for, so they stay right after compaction; of a version
that only adds rows to one that is kept, only those rows are read. Chunk numbers ascend within a table, because
``Lake.commit`` lets none in below the last.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drystone.lake.tables import Tables

KEPT = 12  # columns; one of a million numbers is 8 MB
Kept = tuple[tuple[str, ...], NDArray[Any]]  # the files that it was read from, in order, and the column


class Columns:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._kept: dict[tuple[str, str, int], Kept] = {}
        self._lock = threading.Lock()

    def numbers(self, table: str, version: int) -> NDArray[np.int64]:
        """The chunk numbers of a table in row order, which is ascending."""
        return self._column("chunk", table, version, lambda column: column.to_numpy())

    def versions(self, table: str, version: int) -> NDArray[np.int32]:
        """The document versions that a table's rows belong to, in row order."""
        return self._column("version", table, version, lambda column: column.to_numpy())

    def digests(self, version: int) -> NDArray[np.uint64]:
        """The first eight bytes of each chunk's digest, in row order."""
        return self._column("digest", "chunks", version, _short)

    def _column(self, name: str, table: str, version: int, reading: Callable[[Any], NDArray[Any]]) -> NDArray[Any]:
        key = (name, table, version)
        with self._lock:
            found = self._kept.pop(key, None)
        if found is None:
            found = self._read(name, table, version, reading)
        with self._lock:
            self._kept[key] = found  # the one used last goes last
            while len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
        return found[1]

    def _read(self, name: str, table: str, version: int, reading: Callable[[Any], NDArray[Any]]) -> Kept:
        pieces = self._tables.pieces(table, version)
        with self._lock:
            older = [kept for (n, t, _), kept in self._kept.items() if (n, t) == (name, table)]
        for before, column in reversed(older):
            if before == pieces[: len(before)]:
                if len(before) == len(pieces):
                    return pieces, column
                rows = self._tables.read(table, version, (name,), offset=len(column))
                return pieces, np.concatenate([column, reading(rows[name].combine_chunks())])
        return pieces, reading(self._tables.read(table, version, (name,))[name].combine_chunks())

    def close(self) -> None:
        with self._lock:
            self._kept.clear()


def _short(column: Any) -> NDArray[np.uint64]:
    import pyarrow.compute as pc

    head: Any = pc.binary_slice(column, 0, 8)  # ``shaped`` lets no shorter digest in
    return np.frombuffer(head.buffers()[2] or b"", "<u8", len(head))
