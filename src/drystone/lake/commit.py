"""One commit, step by step. The caller holds the writers' lock.

Guarantees: rows reach Lance before the catalogue names them; if anything fails in between, the pointer stays and the
next writer puts the rows aside. Chunk numbers and segments ascend in commit order, whoever reserved them first, so a
reader that asks for what is above the last number it saw misses nothing.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from drystone.errors import Busy, UsageError
from drystone.lake.rows import Rows
from drystone.lake.tables import VECTORS, schema, shaped
from drystone.ledger.catalog import Change, Pointer
from drystone.records import Document

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from drystone.lake import Lake
    from drystone.ledger.runs import Run


def carry_out(lake: Lake, rows: Rows, run: Run) -> Pointer:
    catalog = lake.ledger.catalog
    done = catalog.applied(rows.key)
    if done is not None:
        return done
    pointer = catalog.pointer()
    _refuse_stale(rows, pointer)
    rows = _ascending(lake, rows, pointer)
    versions = dict(pointer.tables)
    brought = _tables(lake, rows)  # checked, all of them, before the first is written
    _refuse_repeated(lake, brought, pointer)
    if brought:
        with ThreadPoolExecutor(len(brought)) as pool:  # four files to be synced: together they cost what one does
            jobs = {table: pool.submit(lake.tables.append, table, data, versions.get(table)) for table, data in brought}
        versions.update({table: job.result() for table, job in jobs.items()})
    return catalog.apply(
        Change(
            key=rows.key,
            documents=rows.documents,
            version_numbers=rows.version_numbers,
            chunk_first=rows.chunk_first,
            chunk_count=rows.chunk_count,
            relabelled=rows.relabelled,
            removed=rows.removed,
            tables=versions,
            generation=rows.generation if rows.switch or pointer.generation is None else None,
        ),
        run,
    )


def _refuse_stale(rows: Rows, pointer: Pointer) -> None:
    if rows.expects is not None and rows.expects != pointer.commit:
        raise Busy("Another commit came in between.", looked=f"The newest is {pointer.commit}.", todo="Try again.")
    other = pointer.generation not in (None, rows.generation) and not rows.switch
    if rows.documents and rows.vectors is not None and other:
        raise Busy(
            "The generation in force is not the one of these vectors.",
            looked=f"It is {pointer.generation}.",
            todo="Embed again with the model in force, or build and switch to the new generation first.",
        )


def _refuse_repeated(lake: Lake, brought: Sequence[tuple[str, pa.Table]], pointer: Pointer) -> None:
    for table, data in brought:
        last = lake.tables.last(table, pointer.tables.get(table)) if table.startswith(VECTORS) else -1
        if last >= 0 and data["chunk"][0].as_py() <= last:
            raise UsageError("Vectors of these chunks, or of later ones, are there.", todo="Bring them in order.")


def _ascending(lake: Lake, rows: Rows, pointer: Pointer) -> Rows:
    """The same rows with chunk numbers above every committed one, renumbered if another writer came first."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if rows.chunks is None or not len(rows.chunks):
        return rows
    if len(rows.chunks) != sum(rows.chunk_count):
        raise UsageError("The chunks are not as many as chunk_count says.")
    first, last = min(rows.chunk_first), lake.tables.last("chunks", pointer.tables.get("chunks"))
    delta = 0
    if first <= last:
        span = max(a + n for a, n in zip(rows.chunk_first, rows.chunk_count, strict=True)) - first
        delta = lake.ledger.catalog.reserve(chunks=span).chunks - first

    def shifted(table: pa.Table | None, order: str) -> pa.Table | None:
        if table is None:
            return None
        moved = table.set_column(table.schema.get_field_index("chunk"), "chunk", pc.add(table["chunk"], delta))
        return moved.sort_by(order)

    postings = rows.postings
    if postings is not None and len(postings):
        lists: Any = postings["chunks"].combine_chunks()
        values = pc.add(lists.values, delta)
        moved = pa.ListArray.from_arrays(lists.offsets, values)
        postings = postings.set_column(postings.schema.get_field_index("chunks"), "chunks", moved)
        segment = pa.array(np.full(len(postings), first + delta, np.int64))
        if pc.count_distinct(postings["segment"]).as_py() != 1:
            raise UsageError("The postings of one commit are one segment.")
        postings = postings.set_column(postings.schema.get_field_index("segment"), "segment", segment).sort_by("term")
    return replace(
        rows,
        chunk_first=tuple(a + delta for a in rows.chunk_first),
        chunks=shifted(rows.chunks, "chunk"),
        vectors=shifted(rows.vectors, "chunk"),
        postings=postings,
    )


def _tables(lake: Lake, rows: Rows) -> list[tuple[str, pa.Table]]:
    found: list[tuple[str, Any]] = [("documents", documents(rows.documents, rows.version_numbers)),
                                    ("chunks", rows.chunks), ("postings", rows.postings)]  # fmt: skip
    if rows.vectors is not None:
        if rows.generation is None:
            raise UsageError("These vectors name no generation.")
        found.append((VECTORS + rows.generation, rows.vectors))
    return [(lake.tables.named(table), shaped(table, data)) for table, data in found if data is not None and len(data)]


def documents(found: Sequence[Document], numbers: Sequence[int]) -> pa.Table:
    """The rows of the table ``documents``."""
    import pyarrow as pa

    wanted = schema("documents")
    blocks = [[{"kind": b.kind, "start": b.start, "end": b.end, "level": b.level, "page": b.page}
               for b in d.parsed.blocks] for d in found]  # fmt: skip
    titles = [d.parsed.title or d.asset.title for d in found]
    places = [[b.place for b in d.parsed.blocks] if any(b.place for b in d.parsed.blocks) else None for d in found]
    columns: list[Any] = [list(numbers), [d.parsed.text for d in found], titles, blocks, places]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, wanted, strict=True)], schema=wanted)
