"""From documents to the rows of one commit: chunks, vectors, postings.

Guarantees: every document and every chunk has its row, whatever became of its vector; equal texts are embedded once,
and a text that has a vector of this generation is not embedded again; all texts of the commit go to the embedder in
one call, so that it can sort them by length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drystone.errors import ModelUnavailable
from drystone.index.chunks import chunks, for_meaning, for_words
from drystone.records import Batch, Chunk, Classification, Document, Label

if TYPE_CHECKING:
    import pyarrow as pa

    from drystone.index import Index
    from drystone.lake import Rows
    from drystone.ledger.runs import Run

SLAB = 4096  # texts whose words are counted at a time


def build(index: Index, documents: Sequence[Document], batch: Batch, run: Run) -> tuple[Rows, int]:
    """See ``Index.rows``."""
    from drystone.lake import Rows

    settings = index._settings
    with run.time("chunk"):
        cut = [
            list(
                chunks(
                    d.parsed, limit=int(settings["index.chunk_chars"]), overlap=int(settings["index.overlap_sentences"])
                )
            )
            for d in documents
        ]
    counts = [len(found) for found in cut]
    total = sum(counts)
    if not documents:
        return Rows(key=batch.key, relabelled=batch.relabelled, removed=batch.removed), 0

    reserved = index._ledger.catalog.reserve(versions=len(documents), chunks=total)
    firsts = (reserved.chunks + np.concatenate([[0], np.cumsum(counts)])).tolist()
    numbers = tuple(range(reserved.versions, reserved.versions + len(documents)))
    passages = list(chain.from_iterable(cut))
    owners = np.repeat(np.arange(len(documents)), counts)
    titles = [title(d.name, d.parsed.title or d.asset.title) for d in documents]
    named = [(c.text, c.heading, titles[owner]) for c, owner in zip(passages, owners.tolist(), strict=True)]
    languages = [index.language(chunk.text) for chunk in passages]
    texts = [for_meaning(*each) for each in named]
    digests = digest(index, texts)

    with run.time("words"):
        postings, tokens = _postings(index, [for_words(*each) for each in named], reserved.chunks)
    with run.time("embed"):
        allowed = [permitted(index, label) for label in _in_force(index, documents)]
        wanted = [
            place
            for place, (owner, language) in enumerate(zip(owners.tolist(), languages, strict=True))
            if allowed[owner] and index.measured(language)
        ]
        vectors, embedded = _vectors(index, [texts[i] for i in wanted], [digests[i] for i in wanted])
    by_words = Counter(language for language in languages if not index.measured(language))
    run.note(
        "index",
        chunks=total,
        embedded=embedded,
        reused=len(wanted) - embedded,
        generation=index.generation,
        withheld=[d.version for d, ok in zip(documents, allowed, strict=True) if not ok],  # from the embedder
        searched_by_words=dict(by_words),
    )
    rows = Rows(
        key=batch.key,
        documents=tuple(documents),
        version_numbers=numbers,
        chunk_first=tuple(firsts[:-1]),
        chunk_count=tuple(counts),
        chunks=_chunk_table(index, documents, passages, owners, numbers, reserved.chunks, digests, tokens, languages),
        vectors=vector_table(np.array(wanted, np.int64) + reserved.chunks, vectors) if wanted else None,
        generation=index.generation,
        postings=postings,
        relabelled=batch.relabelled,
        removed=batch.removed,
    )
    return rows, embedded


def title(document: str, found: str) -> str:
    """A title that says something. One that only repeats the document's name goes with a rename, so it is left out."""
    return "" if found.casefold() in document.casefold() else found


def digest(index: Index, texts: Sequence[str]) -> list[bytes]:
    """Keyed digests, 16 bytes, of what is embedded: equal texts have equal vectors."""
    key = index._ledger.digest("k", "chunks").encode()
    return [blake2b(text.encode("utf-8", "replace"), key=key, digest_size=16).digest() for text in texts]


def _in_force(index: Index, documents: Sequence[Document]) -> list[Label]:
    """The door's label of each, with what people decided about its name or its bytes: before any text is embedded."""
    catalog = index._ledger.catalog
    decided = [found for source in index._settings.sources if (found := catalog.overrides(source.name))]
    labels = []
    for document in documents:
        label = document.label
        for found in decided:
            label = label.join(found.get(document.asset.digest, label))
        state = catalog.document(document.name) if decided else None
        labels.append(label.join(state.label) if state is not None and state.override else label)
    return labels


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


def _vectors(index: Index, texts: Sequence[str], digests: Sequence[bytes]) -> tuple[NDArray[np.float32], int]:
    """One vector a text, and how many had to be embedded."""
    if not texts:
        return np.zeros((0, index.embedder.dimensions), np.float32), 0
    first = {found: place for place, found in reversed(list(enumerate(digests)))}
    with index._lake.reader() as reader:
        known = reader.vectors_of(list(first), index.generation)
    fresh = [found for found in first if found not in known]
    made = embed(index, [texts[first[found]] for found in fresh]) if fresh else None
    if made is not None:
        known.update(zip(fresh, made, strict=True))
    return np.stack([known[found] for found in digests]), len(fresh)


def _postings(index: Index, texts: Sequence[str], first: int) -> tuple[pa.Table | None, NDArray[np.int32]]:
    """One segment, named by its first chunk: for each term the chunks that have it, and how often."""
    import pyarrow as pa

    slabs = [index._analyser.count(texts[at : at + SLAB]) for at in range(0, len(texts), SLAB)]
    if not slabs:
        return None, np.zeros(0, np.int32)
    term = np.concatenate([s.term for s in slabs])
    chunk = np.concatenate([s.text + (first + i * SLAB) for i, s in enumerate(slabs)])
    count = np.concatenate([s.times for s in slabs])
    tokens = np.concatenate([s.tokens for s in slabs])
    if not len(term):
        return None, tokens
    if len(slabs) > 1:
        order = np.argsort(term, kind="stable")
        term, chunk, count = term[order], chunk[order], count[order]
    starts = np.flatnonzero(np.r_[True, term[1:] != term[:-1]])
    offsets = pa.array(np.r_[starts, len(term)].astype(np.int32))
    table = pa.table(
        {
            "segment": np.full(len(starts), first, np.int64),
            "term": term[starts],
            "chunks": pa.ListArray.from_arrays(offsets, pa.array(chunk)),
            "counts": pa.ListArray.from_arrays(offsets, pa.array(count)),
        }
    )
    return table, tokens


def vector_table(numbers: NDArray[np.int64], vectors: NDArray[np.float32]) -> pa.Table:
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
    return pa.table({"chunk": numbers, "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])})


def _chunk_table(
    index: Index,
    documents: Sequence[Document],
    passages: Sequence[Chunk],
    owners: NDArray[np.int64],
    numbers: tuple[int, ...],
    first: int,
    digests: Sequence[bytes],
    tokens: NDArray[np.int32],
    languages: Sequence[str],
) -> pa.Table | None:
    import pyarrow as pa

    if not passages:
        return None
    opaque = index._ledger.digest
    columns: dict[str, Any] = {
        "chunk": np.arange(first, first + len(passages), dtype=np.int64),
        "version": np.array(numbers, np.int32)[owners],
        "ordinal": pa.array([c.ordinal for c in passages], pa.int32()),
        "id": [
            opaque("c", documents[owner].version, str(c.ordinal))
            for c, owner in zip(passages, owners.tolist(), strict=True)
        ],
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
