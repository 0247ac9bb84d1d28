"""Reading the lake at one pointer, under a lease.

Guarantees: every read sees the table versions that the pointer names, whatever is written, compacted or cleaned up
meanwhile; a table that has no rows yet reads as empty. Rows of versions that the catalogue does not show at the
commit in question are for the caller to mask (``Catalog.view``): the lake knows numbers, not rights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drystone.errors import NotFound
from drystone.lake.rows import ChunkRows, ChunkText, DocumentText, Segment
from drystone.lake.tables import VECTORS, schema
from drystone.records import Block

if TYPE_CHECKING:
    import pyarrow as pa

    from drystone.lake import Lake
    from drystone.lake.leases import Lease
    from drystone.ledger.catalog import Pointer

TEXTS = ("chunk", "version", "ordinal", "id", "start", "end", "text", "heading", "page", "place",
         "tokens", "language")  # fmt: skip


class Reader:
    """Made by ``Lake.reader``; a context manager. Thread-safe."""

    def __init__(self, lake: Lake, pointer: Pointer, lease: Lease) -> None:
        self._lake, self.pointer, self._lease = lake, pointer, lease
        self.commit = pointer.commit

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._lease.close()

    # -- arrays -------------------------------------------------------------------------------------
    def chunk_rows(self, after: int = -1) -> ChunkRows:
        """Number, version and tokens of every chunk above ``after``."""
        at = self.pointer.tables.get("chunks")
        if at is None:
            return ChunkRows(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int32))
        first = self._first("chunks", at, after)
        rows = self._lake.tables.read("chunks", at, ("chunk", "version", "tokens"), offset=first)
        return ChunkRows(_numpy(rows["chunk"]), _numpy(rows["version"]), _numpy(rows["tokens"]))

    def vectors(self, generation: str, after: int = -1) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Chunk numbers (n,) above ``after``, ascending, and their vectors (n, d)."""
        table = VECTORS + generation
        at = self.pointer.tables.get(table)
        if at is None:
            return np.empty(0, np.int64), np.empty((0, 0), np.float32)
        chunk, vectors = self._lake.tables.vectors(table, at, self._first(table, at, after))
        return chunk, vectors

    def postings(self, after: int = -1) -> list[Segment]:
        """The segments whose number is above ``after``, ascending."""
        at = self.pointer.tables.get("postings")
        if at is None:
            return []
        rows = self._lake.tables.read(
            "postings", at, ("segment", "term", "chunks", "counts"), filter=f"segment > {after}" if after >= 0 else None
        )
        number, term = _numpy(rows["segment"]), _numpy(rows["term"])
        offsets, chunks = _lists(rows["chunks"])
        counts = _lists(rows["counts"])[1]
        edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(number)] if len(number) else [0]
        found = []
        for a, b in zip(edges, edges[1:], strict=False):
            o = offsets[a : b + 1]
            found.append(Segment(int(number[a]), term[a:b], o - o[0], chunks[o[0] : o[-1]], counts[o[0] : o[-1]]))
        return found

    # -- texts --------------------------------------------------------------------------------------
    def chunks(self, chunks: Sequence[int]) -> list[ChunkText]:
        """The passages of these chunks, in the order asked. ``NotFound`` if one is not in the lake."""
        if not len(chunks):
            return []
        rows = self._take("chunks", np.asarray(chunks, np.int64), TEXTS).to_pylist()
        return [ChunkText(**{**row, "heading": tuple(row["heading"])}) for row in rows]

    def document(self, version: int) -> DocumentText:
        """One version, whole."""
        at = self.pointer.tables.get("documents")
        where = [] if at is None else np.flatnonzero(self._lake.columns.versions("documents", at) == version).tolist()
        if at is None or not where:
            raise NotFound("There is no such version.")
        (row,) = self._lake.tables.take("documents", at, where[:1], schema("documents").names).to_pylist()
        places = row["places"] or [""] * len(row["blocks"])
        blocks = (Block(**block, place=place) for block, place in zip(row["blocks"], places, strict=True))
        return DocumentText(row["version"], row["text"], row["title"], tuple(blocks))

    def arrow(self, table: str, versions: Sequence[int]) -> pa.Table:
        """The rows of ``documents`` or ``chunks`` that belong to these versions."""
        import pyarrow as pa

        wanted = schema(table)
        at = self.pointer.tables.get(table)
        if at is None or not len(versions):
            return wanted.empty_table()
        mask = np.isin(self._lake.columns.versions(table, at), np.asarray(versions, np.int32))
        if mask.mean() > 0.5:  # reading all of it in order is quicker
            return self._lake.tables.read(table, at, wanted.names).filter(pa.array(mask))
        return self._lake.tables.take(table, at, np.flatnonzero(mask).tolist(), wanted.names)

    def vectors_of(self, digests: Sequence[bytes], generation: str) -> dict[bytes, NDArray[np.float32]]:
        """Vectors that some chunk of the same digest already has in this generation; shape (d,) each."""
        at, table = self.pointer.tables.get("chunks"), VECTORS + generation
        where = self.pointer.tables.get(table)
        if at is None or where is None or not digests:
            return {}
        wanted = set(digests)
        short = np.array(sorted({_short(d) for d in wanted}), np.uint64)
        offsets = np.flatnonzero(np.isin(self._lake.columns.digests(at), short))
        if not len(offsets):
            return {}
        rows = self._lake.tables.take("chunks", at, offsets.tolist(), ("chunk", "digest"))
        order = self._lake.columns.numbers(table, where)
        place, there = _find(order, rows["chunk"].to_numpy())
        found = zip(rows["digest"].to_pylist(), place.tolist(), there.tolist(), strict=True)
        have = {digest: at for digest, at, ok in found if ok and digest in wanted}  # a chunk may lack its vector
        if not have:
            return {}
        vectors = self._lake.tables.take(table, where, list(have.values()), ("vector",))["vector"]
        flat: NDArray[np.float32] = _whole(vectors).flatten().to_numpy(zero_copy_only=False).reshape(len(vectors), -1)
        return dict(zip(have, flat, strict=True))

    # -- inside -------------------------------------------------------------------------------------
    def _first(self, table: str, at: int, after: int) -> int:
        return 0 if after < 0 else int(np.searchsorted(self._lake.columns.numbers(table, at), after, "right"))

    def _take(self, table: str, numbers: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        at = self.pointer.tables.get(table)
        order = np.empty(0, np.int64) if at is None else self._lake.columns.numbers(table, at)
        place, there = _find(order, numbers)
        if at is None or not there.all():
            raise NotFound("There is no such chunk.")
        return self._lake.tables.take(table, at, place.tolist(), columns)


def _find(ascending: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    place = np.searchsorted(ascending, wanted)
    if not len(ascending):
        return place, np.zeros(len(wanted), bool)
    return place, ascending[np.minimum(place, len(ascending) - 1)] == wanted


def _short(digest: bytes) -> int:
    return int.from_bytes(digest[:8].ljust(8, b"\0"), "little")


def _numpy(column: Any) -> NDArray[Any]:
    return _whole(column).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _whole(column: Any) -> Any:
    """The one array of a chunked column, without a copy where it is in one piece."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _lists(column: Any) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """A list column as offsets (n + 1) and values."""
    whole = _whole(column)
    offsets = whole.offsets.to_numpy().astype(np.int64)
    return offsets, whole.values.to_numpy(zero_copy_only=False)
