"""What a commit holds, said without anything that differs between two stores of the same content.

Guarantees: no key, number, time or order of arrival shows, so an incremental store and one that was rebuilt from
nothing give equal rows if, and only if, they hold the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from drystone.lake import Lake


def rows(lake: Lake, commit: int | None = None) -> Iterator[dict[str, Any]]:
    """One dictionary a visible version, by document name. Vectors are given rounded to four decimals."""
    catalog = lake.ledger.catalog
    view = catalog.view(commit)
    states = catalog.versions(np.flatnonzero(view.visible()).tolist())
    with lake.reader() as reader:
        generation = reader.pointer.generation
        embedded = reader.vectors(generation) if generation else (np.empty(0, np.int64), np.empty((0, 0), np.float32))
        vectors = dict(zip(embedded[0].tolist(), embedded[1], strict=True))
        posted = [s.chunks for s in reader.postings()]
        known = np.unique(np.concatenate(posted)) if posted else np.empty(0, np.int64)
        for state in sorted(states.values(), key=lambda s: s.document):
            numbers = range(state.chunk_first, state.chunk_first + state.chunk_count)
            document = reader.document(state.number)
            yield {
                "document": state.document,
                "bytes": sha256(lake.bytes(state.asset)).hexdigest(),
                "media_type": state.media_type,
                "title": document.title,
                "text": document.text,
                "blocks": document.blocks,
                "label": view.label(int(view.version_document[state.number])).to_dict(),
                "chunks": [
                    (c.ordinal, c.start, c.end, c.text, c.heading, c.page, c.place, c.tokens, c.language)
                    for c in reader.chunks(list(numbers))
                ],
                "vectors": [np.round(vectors[n], 4).tolist() if n in vectors else None for n in numbers],
                "posted": np.isin(np.array(numbers, np.int64), known).tolist(),
            }
