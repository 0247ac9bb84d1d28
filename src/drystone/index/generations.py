"""Changing the embedding model: a new generation grows beside the old and is put in force in one commit.

Guarantees: until that commit every question meets the old generation, and after it the new one, never both; the new
one has a vector for every chunk that any commit can still show and that may have one; a build that died goes on where
it stopped; the old generation stays, so the way back embeds only what came since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from drystone.errors import Busy, UsageError
from drystone.index import rows as making
from drystone.index.chunks import context

if TYPE_CHECKING:
    from drystone.index import Index
    from drystone.lake import Reader
    from drystone.ledger.catalog import Pointer
    from drystone.ledger.runs import Run
    from drystone.ports import Progress

PART = 4096  # chunks of one commit while building


def build(index: Index, run: Run, progress: Progress | None = None) -> Pointer:
    """See ``Index.build_generation``. Also fills gaps of the generation in force; without gaps it does nothing."""
    from drystone.lake import Rows

    looked_at: NDArray[np.int64] | None = None
    embedded = reused = part = 0
    while True:
        with index._lake.reader() as reader:
            if looked_at is None:
                looked_at = reader.vectors(index.generation)[0]
            rows = reader.chunk_rows()
            todo = np.isin(rows.chunk, looked_at, invert=True)
            chunks, versions = rows.chunk[todo], rows.version[todo]
            pointer = reader.pointer
            if not len(chunks):
                if pointer.generation == index.generation:
                    break
                try:
                    key = f"{run.id}/{index.generation}/{pointer.commit}"
                    last = Rows(key=key, generation=index.generation, switch=True, expects=pointer.commit)
                    pointer = index._lake.commit(last, run)
                    break
                except Busy:  # somebody committed meanwhile: their chunks too
                    continue
            chunks, versions = chunks[:PART], versions[:PART]
            numbers, vectors, fresh = _part(index, reader, chunks, versions)
        if len(numbers):
            part += 1
            index._lake.commit(
                Rows(
                    key=f"{run.id}/{index.generation}/part {part}",
                    vectors=making.vector_table(numbers, vectors),
                    generation=index.generation,
                ),
                run,
            )
        embedded, reused = embedded + fresh, reused + len(numbers) - fresh
        looked_at = np.union1d(looked_at, chunks)
        if progress is not None:
            progress("embed", len(looked_at), len(rows.chunk))
    run.note("generation", generation=index.generation, embedded=embedded, reused=reused, commit=pointer.commit)
    return pointer


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
    index: Index, reader: Reader, chunks: NDArray[np.int64], versions: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
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
            around = context(found.heading, making.title(state.document, state.title))
            numbers.append(found.chunk)
            texts.append(making.whole(around, found.text))
    vectors, fresh = making._vectors(index, texts, making.digest(index, texts))
    return np.array(numbers, np.int64), vectors, fresh
