"""Changing the embedding model: a new generation grows beside the old and is put in force in one commit.

Guarantees: until that commit every question meets the old generation, and after it the new one, never both; the new
one has a vector for every chunk that any commit can still show and that may have one; a build that died goes on where
it stopped; the old generation stays, so the way back embeds only what came since.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from drystone.errors import Busy, UsageError
from drystone.index import rows as making
from drystone.index.chunks import for_meaning

if TYPE_CHECKING:
    import pyarrow as pa

    from drystone.index import Index
    from drystone.lake import Reader
    from drystone.ledger.catalog import Pointer
    from drystone.ledger.runs import Run
    from drystone.ports import Progress

PART = 4096  # chunks of one commit while building


def build(index: Index, run: Run, progress: Progress | None = None) -> Pointer:
    """See ``Index.build_generation``. Nothing to do where the configured generation is in force."""
    pointer = index._ledger.catalog.pointer()
    if pointer.generation == index.generation:
        return pointer
    after, embedded, reused = -1, 0, 0
    while True:
        with index._lake.reader() as reader:
            have = reader.vectors(index.generation, after)[0]  # of a build that died, or another process's
            after = int(have[-1]) if len(have) else after
            rows = reader.chunk_rows(after)
            chunks, versions = rows.chunk[:PART], rows.version[:PART]
            at = reader.commit
            done, left = embedded + reused, len(rows.chunk)

            def told(some: int, _: int, done: int = done, left: int = left) -> None:
                if progress is not None:
                    progress("embed", done + some, done + left)

            numbers, vectors, fresh = _part(index, reader, chunks, versions, told)
        if not len(chunks):
            switched = _commit(index, run, at, None)
            if switched is None:  # somebody committed meanwhile: their chunks too
                continue
            facts = {"embedded": embedded, "reused": reused, "commit": switched.commit}
            run.note("generation", generation=index.generation, **facts)
            return switched
        while len(numbers) and _commit(index, run, at, making.vector_table(numbers, vectors)) is None:
            with index._lake.reader() as reader:
                if len(reader.vectors(index.generation, after)[0]):
                    break  # another process builds the same generation and was quicker: go on from there
                at = reader.commit
        after = int(chunks[-1]) if len(rows.chunk) else after
        embedded, reused = embedded + fresh, reused + len(numbers) - fresh
        if progress is not None:
            progress("embed", embedded + reused, embedded + reused + len(rows.chunk) - len(chunks))


def _commit(index: Index, run: Run, at: int, vectors: pa.Table | None) -> Pointer | None:
    """Bring a part, or switch if there is none, provided nothing came since the commit ``at``; else ``None``."""
    from drystone.lake import Rows

    pointer = index._ledger.catalog.pointer()
    if pointer.commit != at:
        return None
    rows = Rows(
        key=f"{run.id}/{index.generation}/{at}",
        vectors=vectors,
        generation=index.generation,
        switch=vectors is None,
        expects=at,
    )
    try:
        return index._lake.commit(rows, run)
    except Busy:
        if index._ledger.catalog.pointer().commit == at:
            raise  # nobody committed: the lock itself could not be had
        return None


def back(index: Index, run: Run) -> Pointer:
    """See ``Index.switch_back``."""
    pointer = index._ledger.catalog.pointer()
    if pointer.generation == index.generation or index.generation not in index._ledger.catalog.generations():
        raise UsageError(
            "There is no way back to this generation.",
            looked=f"[embedding] names {index.generation}; in force is {pointer.generation}.",
            todo="Let [embedding] name the model that was in force before, then switch back.",
        )
    return build(index, run)


def _part(
    index: Index, reader: Reader, chunks: NDArray[np.int64], versions: NDArray[np.int32],
    told: Callable[[int, int], None],
) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:  # fmt: skip
    """Chunk numbers, vectors, and how many of them were embedded: of those chunks that may have a vector."""
    view = index._ledger.catalog.view()
    states = index._ledger.catalog.versions(sorted(set(versions.tolist())))
    allowed: dict[int, bool] = {}
    numbers: list[int] = []
    texts: list[str] = []
    for found in reader.chunks(chunks.tolist()):
        document = int(view.version_document[found.version])
        if document not in allowed:
            known = document >= 0 and view.document_label[document] >= 0 and found.version in states
            allowed[document] = bool(known and making.permitted(index, view.label(document)))
        if allowed[document] and index.measured(found.language):
            state = states[found.version]
            numbers.append(found.chunk)
            texts.append(for_meaning(found.text, found.heading, making.title(state.document, state.title)))
    vectors, fresh = making.vectors(index, texts, making.digest(index, texts), {}, told)
    return np.array(numbers, np.int64), vectors, fresh
