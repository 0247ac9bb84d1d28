"""What goes into the lake and what comes out, in rows. Integers (version, chunk, segment) stay inside.

Guarantees: plain data; nothing here opens a file. Arrays that come out are read-only views where Arrow allows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from drystone.records import Block, Document, Relabel

if TYPE_CHECKING:
    import pyarrow as pa

    from drystone.ledger.catalog import Pointer


@dataclass(frozen=True, slots=True)
class Rows:
    """What one commit brings. ``key`` makes it idempotent: the same key twice is one commit.

    ``version_numbers``, ``chunk_first`` and ``chunk_count`` run parallel to ``documents``; the chunks of
    document ``i`` are ``chunk_first[i] .. chunk_first[i] + chunk_count[i] - 1``. ``chunks``, ``vectors`` and
    ``postings`` are tables as ``tables.schema`` says, or ``None``. ``generation`` names that of ``vectors``; it
    becomes the pointed one if there was none before or if ``switch`` is set. ``expects``: refuse (``Busy``) if
    the newest commit is another one, for work that had to see everything.
    """

    key: str
    documents: tuple[Document, ...] = ()
    version_numbers: tuple[int, ...] = ()
    chunk_first: tuple[int, ...] = ()
    chunk_count: tuple[int, ...] = ()
    chunks: pa.Table | None = None
    vectors: pa.Table | None = None
    generation: str | None = None
    postings: pa.Table | None = None
    relabelled: tuple[Relabel, ...] = ()
    removed: tuple[str, ...] = ()
    switch: bool = False
    expects: int | None = None


@dataclass(frozen=True, slots=True)
class ChunkRows:
    """Three arrays of one length, ascending by ``chunk``."""

    chunk: NDArray[np.int64]
    version: NDArray[np.int32]
    tokens: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Segment:
    """The postings of one commit, as a sparse matrix by row (CSR).

    ``terms`` ascend; those of ``terms[i]`` are ``chunks[offsets[i]:offsets[i + 1]]`` with their ``counts``.
    """

    number: int
    terms: NDArray[np.uint64]
    offsets: NDArray[np.int64]  # len(terms) + 1
    chunks: NDArray[np.int64]
    counts: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ChunkText:
    """One passage as it was committed: ``text == document.text[start:end]``."""

    chunk: int
    version: int
    ordinal: int
    id: str
    start: int
    end: int
    text: str
    heading: tuple[str, ...]
    page: int | None
    place: str | None
    tokens: int
    language: str


@dataclass(frozen=True, slots=True)
class DocumentText:
    """One version of a document, whole."""

    version: int
    text: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class MaintenanceReport:
    """What a maintenance run did. ``orphans``: rows that a crashed writer left and no commit ever named."""

    pointer: Pointer
    compacted: dict[str, int] = field(default_factory=dict)  # table: fragments that went
    orphans: int = 0
    versions: int = 0
    bytes: int = 0
    files: int = 0  # unfinished blobs and leases of dead processes
