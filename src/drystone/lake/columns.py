"""Two columns kept in memory, by table version: where each number lies, and the digests' first bytes.

Guarantees: positions are those of exactly the version asked for, so they stay right after compaction. Chunk numbers
ascend within a table, because ``Lake.commit`` lets none in below the last.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drystone.lake.tables import Tables

KEPT = 8  # columns; one of a million numbers is 8 MB


class Columns:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._kept: dict[tuple[str, str, int], NDArray[np.int64] | NDArray[np.uint64]] = {}
        self._lock = threading.Lock()

    def numbers(self, table: str, version: int) -> NDArray[np.int64]:
        """The chunk numbers of a table in row order, which is ascending."""
        key = ("chunk", table, version)
        found = self._kept.get(key)
        if found is None:
            found = self._keep(key, self._tables.read(table, version, ("chunk",))["chunk"].combine_chunks().to_numpy())
        return found  # type: ignore[return-value]

    def digests(self, version: int) -> NDArray[np.uint64]:
        """The first eight bytes of each chunk's digest, in row order."""
        key = ("digest", "chunks", version)
        found = self._kept.get(key)
        if found is None:
            import pyarrow.compute as pc

            column = self._tables.read("chunks", version, ("digest",))["digest"].combine_chunks()
            head = pc.binary_slice(column, 0, 8)  # ``shaped`` lets no shorter digest in
            data: Any = head.buffers()[2] or b""
            found = self._keep(key, np.frombuffer(data, "<u8", len(head)))
        return found  # type: ignore[return-value]

    def _keep(
        self, key: tuple[str, str, int], column: NDArray[np.int64] | NDArray[np.uint64]
    ) -> NDArray[np.int64] | NDArray[np.uint64]:
        with self._lock:
            self._kept[key] = column
            while len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
        return column

    def close(self) -> None:
        with self._lock:
            self._kept.clear()
