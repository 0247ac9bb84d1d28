"""The rows that are searched, in memory: grown by what a newer pointer brings, never rebuilt for a commit.

Guarantees: rows are in the order of their chunk numbers and stay where they are; a passage that the catalogue shows
and whose words are not there is an error (``IndexIncomplete``), never a smaller result. A passage without a vector
(it may not flow to the embedder, or its language was not measured) has a zero vector: it is found by words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from drystone.errors import IndexIncomplete
from drystone.retrieve.scan import Vectors
from drystone.retrieve.words import Postings, Words

if TYPE_CHECKING:
    from drystone.lake import Reader


@dataclass(frozen=True, slots=True)
class Corpus:
    """One generation's rows at one pointer. Never changed: a search that runs keeps the rows that it began with."""

    generation: str | None
    chunk: NDArray[np.int64]
    version: NDArray[np.int32]
    tokens: NDArray[np.int32]
    embedded: NDArray[np.bool_]
    posted: NDArray[np.bool_]
    vectors: Vectors | None
    words: Words
    segment: int = -1

    @classmethod
    def empty(cls, generation: str | None) -> Corpus:
        return cls(
            generation, np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, bool),
            np.empty(0, bool), None, Words(),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.chunk)

    def grown(self, reader: Reader, threads: int) -> Corpus:
        """With the rows above the last one."""
        first, last = len(self), int(self.chunk[-1]) if len(self) else -1
        rows = reader.chunk_rows(after=last)
        chunk = np.concatenate([self.chunk, rows.chunk])
        embedded = np.concatenate([self.embedded, np.zeros(len(rows.chunk), bool)])
        vectors = self.vectors
        if self.generation is not None:
            number, found = reader.vectors(self.generation, after=last)
            place = np.searchsorted(rows.chunk, number)
            known = place < len(rows.chunk)
            known[known] &= rows.chunk[place[known]] == number[known]
            if known.any() or vectors is not None:
                dimensions = vectors.dimensions if vectors is not None else found.shape[1]
                if vectors is None:
                    vectors = Vectors(dimensions, threads).grown(np.zeros((first, dimensions), np.float32))
                if known.all() and len(number) == len(rows.chunk):
                    vectors = vectors.grown(found)
                elif len(rows.chunk):
                    whole = np.zeros((len(rows.chunk), dimensions), np.float32)
                    whole[place[known]] = found[known]
                    vectors = vectors.grown(whole)
                embedded[first + place[known]] = True
        posted = np.concatenate([self.posted, rows.tokens == 0])
        segment, words = self.segment, Words(self.words)
        for new in reader.postings(after=self.segment):
            segment = max(segment, new.number)
            at = np.minimum(np.searchsorted(chunk, new.chunks), max(len(chunk) - 1, 0))
            mine = chunk[at] == new.chunks if len(chunk) else np.zeros(len(at), bool)
            if not mine.all():  # of rows that a clean-up took away
                edges = np.concatenate([[0], np.cumsum(mine)])[new.offsets]
                words.append(Postings(new.terms, edges, at[mine].astype(np.int32), new.counts[mine]))
            else:
                words.append(Postings(new.terms, new.offsets, at.astype(np.int32), new.counts))
            posted[at[mine]] = True
        return Corpus(
            self.generation, chunk, np.concatenate([self.version, rows.version]),
            np.concatenate([self.tokens, rows.tokens]), embedded, posted, vectors, words, segment,
        )  # fmt: skip

    def require(self, mask: NDArray[np.bool_]) -> None:
        """Refuse to be silently less: every visible passage has its words."""
        if not self.posted[mask].all():
            raise IndexIncomplete(
                "The index of words lacks passages that the newest commit names.",
                looked="We compared the postings with the passages' lengths.",
                todo="Run `drystone index rebuild`; nothing was searched.",
            )
