"""From documents to the rows of one commit: chunks, vectors, postings.

Guarantees: every document and every chunk has its row, whatever became of its vector; equal texts are embedded once,
and a text that has a vector of this generation is not embedded again; texts go to the embedder sorted by length, many
in one call, so that it pads little; beside the documents' texts memory holds one slab of passages and the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drystone.errors import ModelUnavailable
from drystone.index.chunks import chunks, for_meaning, for_words
from drystone.records import Batch, Chunk, Classification, Document, Label

if TYPE_CHECKING:
    import pyarrow as pa

    from drystone.index import Index
    from drystone.index.terms import Counts
    from drystone.lake import Rows
    from drystone.ledger.runs import Run

PORTION = 64  # texts that are embedded between two words about progress: some seconds at most
SLAB = 4096  # passages that are worked on at a time, so that a long document is not held in many forms at once


def build(index: Index, documents: Sequence[Document], batch: Batch, run: Run) -> tuple[Rows, int]:
    """See ``Index.rows``."""
    from drystone.lake import Rows

    if not documents:
        return Rows(key=batch.key, relabelled=batch.relabelled, removed=batch.removed), 0
    made = _Making(index, documents, run)
    while made.slab():
        pass
    reserved = index._ledger.catalog.reserve(versions=len(documents), chunks=made.total)
    run.note(
        "index",
        chunks=made.total,
        embedded=made.embedded,
        reused=len(made.wanted) - made.embedded,
        generation=index.generation,
        withheld=[d.version for d, ok in zip(documents, made.allowed, strict=True) if not ok],  # from the embedder
        searched_by_words=dict(made.by_words),
    )
    firsts = reserved.chunks + np.concatenate([[0], np.cumsum(made.counts)])
    numbers = np.arange(reserved.versions, reserved.versions + len(documents), dtype=np.int32)
    rows = Rows(
        key=batch.key,
        documents=tuple(documents),
        version_numbers=tuple(numbers.tolist()),
        chunk_first=tuple(firsts[:-1].tolist()),
        chunk_count=tuple(made.counts),
        chunks=made.chunk_table(reserved.chunks, numbers),
        vectors=made.vector_table(reserved.chunks),
        generation=index.generation,
        postings=made.postings(reserved.chunks),
        relabelled=batch.relabelled,
        removed=batch.removed,
    )
    return rows, made.embedded


class _Making:
    """The rows of one commit as they come together, slab by slab; numbers of chunks count from 0."""

    def __init__(self, index: Index, documents: Sequence[Document], run: Run) -> None:
        self.index, self.documents, self.run = index, documents, run
        self.counts = [0] * len(documents)
        self.total = self.embedded = 0
        self.wanted: list[int] = []  # chunks that have a vector
        self.by_words: Counter[str] = Counter()
        named = [(d.name, d.asset.digest, d.parent, d.label) for d in documents]
        self.allowed = [permitted(index, label) for label in index._ledger.catalog.in_force(named)]
        self._titles = [title(d.name, d.parsed.title or d.asset.title) for d in documents]
        self._passages = self._cut()
        self._owners: list[NDArray[np.int32]] = []
        self._tables: list[pa.Table] = []
        self._counted: list[Counts] = []
        self._vectors: list[NDArray[np.float32]] = []
        self._known: dict[bytes, NDArray[np.float32]] = {}  # vectors by digest, of this commit too

    def _cut(self) -> Iterator[tuple[int, Chunk]]:
        settings = self.index._settings
        limit, overlap = int(settings["index.chunk_chars"]), int(settings["index.overlap_sentences"])
        for owner, document in enumerate(self.documents):
            for chunk in chunks(document.parsed, limit=limit, overlap=overlap):
                yield owner, chunk

    def slab(self) -> bool:
        """Take the next passages in. False if there were none."""
        index, first = self.index, self.total
        with self.run.time("chunk"):
            taken = list(islice(self._passages, SLAB))
        if not taken:
            return False
        owners, passages = [owner for owner, _ in taken], [chunk for _, chunk in taken]
        for owner in owners:
            self.counts[owner] += 1
        self.total += len(taken)
        named = [(chunk.text, chunk.heading, self._titles[owner]) for owner, chunk in taken]
        with self.run.time("words"):
            counted = index._analyser.count([for_words(*each) for each in named])
            languages = [index.language(chunk.text) for chunk in passages]
        self._counted.append(counted)
        texts = [for_meaning(*each) for each in named]
        digests = digest(index, texts)
        with self.run.time("embed"):
            measured = {language: index.measured(language) for language in set(languages)}
            self.by_words.update(language for language in languages if not measured[language])
            here = [at for at, owner in enumerate(owners) if self.allowed[owner] and measured[languages[at]]]
            if here:
                chosen = [texts[at] for at in here], [digests[at] for at in here]
                made, fresh = vectors(index, *chosen, self._known, index.told)
                self._vectors.append(made)
                self.embedded += fresh
                self.wanted += [first + at for at in here]
        self._owners.append(np.array(owners, np.int32))
        self._tables.append(_columns(index, self.documents, owners, passages, digests, counted.tokens, languages))
        return True

    # -- tables ---------------------------------------------------------------------------------------
    def chunk_table(self, first: int, versions: NDArray[np.int32]) -> pa.Table | None:
        import pyarrow as pa

        if not self.total:
            return None
        table = pa.concat_tables(self._tables)
        self._tables.clear()
        table = table.append_column("chunk", pa.array(np.arange(first, first + self.total, dtype=np.int64)))
        return table.append_column("version", pa.array(versions[np.concatenate(self._owners)]))

    def vector_table(self, first: int) -> pa.Table | None:
        import pyarrow as pa

        if not self.wanted:
            return None
        self._known.clear()
        flat = pa.chunked_array([vector_list(part) for part in self._vectors])
        return pa.table({"chunk": np.array(self.wanted, np.int64) + first, "vector": flat})

    def postings(self, first: int) -> pa.Table | None:
        """One segment, named by its first chunk: for each term the chunks that have it, and how often."""
        import pyarrow as pa

        if not self.total:
            return None
        many = len(self._counted) > 1
        term = np.concatenate([s.term for s in self._counted])
        chunk = np.concatenate([s.text + np.int64(first + i * SLAB) for i, s in enumerate(self._counted)])
        count = np.concatenate([s.times for s in self._counted])
        self._counted.clear()  # of a long document this is as large as its text
        if not len(term):
            return None
        if many:
            order = np.argsort(term, kind="stable")
            term, chunk, count = term[order], chunk[order], count[order]
            del order
        starts = np.flatnonzero(np.r_[True, term[1:] != term[:-1]])
        offsets = pa.array(np.r_[starts, len(term)].astype(np.int32))
        return pa.table(
            {
                "segment": np.full(len(starts), first, np.int64),
                "term": term[starts],
                "chunks": pa.ListArray.from_arrays(offsets, pa.array(chunk)),
                "counts": pa.ListArray.from_arrays(offsets, pa.array(count)),
            }
        )


def title(document: str, found: str) -> str:
    """A title that says something. One that only repeats the document's name goes with a rename, so it is left out."""
    return "" if found.casefold() in document.casefold() else found


def digest(index: Index, texts: Sequence[str]) -> list[bytes]:
    """Keyed digests, 16 bytes, of what is embedded: equal texts have equal vectors."""
    key = index._ledger.digest("k", "chunks").encode()
    return [blake2b(text.encode("utf-8", "replace"), key=key, digest_size=16).digest() for text in texts]


def permitted(index: Index, label: Label) -> bool:
    """May a text with this label flow to the embedder? It is a sink like any model.

    In this process: cleared for everything in ``project.region``. Elsewhere: what ``[embedding]`` says, else public.
    """
    options, home = index._settings.embedding, index._home
    clearance = Classification.parse(options.get("clearance", "restricted" if home else "public"))
    regions = frozenset(options.get("regions", [index._settings.region] if home else []))
    purposes = frozenset(options["purposes"]) if "purposes" in options else None
    # Embedding serves whatever the text may be used for: its one purpose is one that label and embedder both have.
    sets = [found for found in (label.purposes, purposes) if found is not None]
    common = frozenset.intersection(*sets) if sets else None
    purpose = index._settings.purpose
    if common is not None and purpose not in common:
        purpose = min(common, default=purpose)
    sink = index._policy.processor(index.embedder.name, clearance, regions, purposes, purpose)
    return bool(label.flows_to(sink, index._ledger.now()))


def embed(index: Index, texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors of ``texts``, checked: an engine that returns too little is an error, not a shorter index."""
    found = index.embedder.embed(texts)
    if found.shape != (len(texts), index.embedder.dimensions) or not np.isfinite(found).all():
        raise ModelUnavailable(
            f"The embedder {index.embedder.name} gave vectors of another shape than it promised, or not numbers.",
            looked=f"It was given {len(texts)} texts and gave {found.shape}.",
            todo="Check [embedding]; nothing was committed.",
        )
    return found.astype(np.float32, copy=False)


def vectors(
    index: Index, texts: Sequence[str], digests: Sequence[bytes], known: dict[bytes, NDArray[np.float32]],
    told: Callable[[int, int], None],
) -> tuple[NDArray[np.float32], int]:  # fmt: skip
    """One vector a text, and how many had to be embedded. ``known``: those found so far, by digest; it grows.

    ``told`` hears how many of how many are embedded.
    """
    if not texts:
        return np.zeros((0, index.embedder.dimensions), np.float32), 0
    first = {found: place for place, found in reversed(list(enumerate(digests))) if found not in known}
    with index._lake.reader() as reader:
        known |= reader.vectors_of(list(first), index.generation)
    fresh = sorted((found for found in first if found not in known), key=lambda found: len(texts[first[found]]))
    for at in range(0, len(fresh), PORTION):  # by length, so that an embedder pads little
        portion = fresh[at : at + PORTION]
        known |= zip(portion, embed(index, [texts[first[found]] for found in portion]), strict=True)
        told(at + len(portion), len(fresh))
    made = np.stack([known[found] for found in digests])
    known |= zip(digests, made, strict=True)  # the same vectors, so that they are held once
    return made, len(fresh)


def vector_list(vectors: NDArray[np.float32]) -> Any:
    """Vectors (n, d) as a column, without a copy."""
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def vector_table(numbers: NDArray[np.int64], vectors: NDArray[np.float32]) -> pa.Table:
    import pyarrow as pa

    return pa.table({"chunk": numbers, "vector": vector_list(vectors)})


def _columns(
    index: Index, documents: Sequence[Document], owners: Sequence[int], passages: Sequence[Chunk],
    digests: Sequence[bytes], tokens: NDArray[np.int32], languages: Sequence[str],
) -> pa.Table:  # fmt: skip
    """Every column of the table ``chunks`` but the numbers."""
    import pyarrow as pa

    opaque = index._ledger.digest
    ids = [opaque("c", documents[owner].version, str(c.ordinal)) for owner, c in zip(owners, passages, strict=True)]
    columns: dict[str, Any] = {
        "ordinal": pa.array([c.ordinal for c in passages], pa.int32()),
        "id": ids,
        "digest": pa.array(list(digests), pa.binary()),
        "start": pa.array([c.start for c in passages], pa.int32()),
        "end": pa.array([c.end for c in passages], pa.int32()),
        "text": pa.array([c.text for c in passages], pa.string()),
        "heading": pa.array([list(c.heading) for c in passages], pa.list_(pa.string())),
        "page": pa.array([c.page for c in passages], pa.int32()),
        "place": pa.array([c.place or None for c in passages], pa.string()),
        "tokens": tokens,
        "language": pa.array(list(languages), pa.string()),
    }
    return pa.table(columns)
