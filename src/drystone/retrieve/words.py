"""BM25 over our own postings, with every statistic counted over permitted rows only.

Guarantees: document frequencies, the number of passages and their mean length come from the rows of the mask and
from nothing else, so a document that the asker may not see influences no score. Scores are divided by the most that
the question could reach, so they lie in 0..1 and mean the same from question to question.

Okapi BM25 with the idf of Lucene (never negative); k1 and b as Anserini uses them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

K1, B = 0.9, 0.4
_GROWTH = 4  # a segment is merged into the one before it unless that is this many times larger
_ORDINARY = 100  # passages that coverage imagines beside the permitted ones; each word is in one of them


@dataclass(frozen=True, slots=True)
class Postings:
    """Sparse matrix by row: rows of ``terms[i]`` are ``rows[offsets[i]:offsets[i + 1]]``. ``terms`` ascend."""

    terms: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    rows: NDArray[np.int32]
    counts: NDArray[np.uint8]

    def of(self, term: np.uint64) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        at = int(np.searchsorted(self.terms, term))
        if at == len(self.terms) or self.terms[at] != term:
            return self.rows[:0], self.counts[:0]
        a, b = self.offsets[at], self.offsets[at + 1]
        return self.rows[a:b], self.counts[a:b]


@dataclass(frozen=True, slots=True)
class Scored:
    """``scores`` has one float32 a row, 0 where no term occurs, else up to 1; ``rows``: those above 0.

    ``terms`` are the question's distinct ones, ``frequencies`` in how many permitted rows each occurs.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    terms: NDArray[np.uint64]
    frequencies: NDArray[np.int64]
    count: int  # permitted rows

    def coverage(self, terms: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
        """Those of ``terms`` that were asked for, and what each weighs when coverage is measured: its idf as if a
        hundred ordinary passages were there too. In a small store a word that is missing would weigh all otherwise.
        """
        asked = np.isin(self.terms, terms)
        weights = [_idf(int(n) + 1, self.count + _ORDINARY) for n in self.frequencies[asked]]
        return self.terms[asked], np.array(weights, np.float64)


class Words:
    """Postings that grow by segments; small ones are merged as they come, so a question reads few."""

    def __init__(self, before: Words | None = None) -> None:
        """``before``: share its segments; what is appended here does not show there."""
        self._segments: tuple[Postings, ...] = () if before is None else before._segments

    def append(self, segment: Postings) -> None:
        """Rows of a later segment come after those of an earlier one."""
        segments = [*self._segments, segment]
        while len(segments) > 1 and len(segments[-2].rows) < _GROWTH * len(segments[-1].rows):
            last = segments.pop()
            segments[-1] = _merged(segments[-1], last)
        self._segments = tuple(segments)

    def frequency(self, term: np.uint64, mask: NDArray[np.bool_]) -> int:
        """In how many permitted rows a term occurs."""
        return sum(int(mask[segment.of(term)[0]].sum()) for segment in self._segments)

    def idf(self, terms: NDArray[np.uint64], mask: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
        return np.array([_idf(self.frequency(term, mask), count) for term in terms], np.float64)

    def score(
        self, terms: NDArray[np.uint64], mask: NDArray[np.bool_], count: int, lengths: NDArray[np.int32], total: int
    ) -> Scored:
        """``count`` rows of ``mask`` are permitted, with ``total`` terms altogether; ``lengths`` is one a row."""
        distinct = np.unique(terms)
        scores = np.zeros(len(mask), np.float32)
        weights = np.zeros(len(distinct), np.float64)
        frequencies = np.zeros(len(distinct), np.int64)
        mean = max(total / max(count, 1), 1e-9)
        every = count == len(mask)
        for n, term in enumerate(distinct):
            found = []
            for segment in self._segments:
                rows, counts = segment.of(term)
                if len(rows) and not every:
                    seen = mask[rows]
                    rows, counts = rows[seen], counts[seen]
                if len(rows):
                    found.append((rows, counts))
            frequencies[n] = sum(len(rows) for rows, _ in found)
            idf = weights[n] = _idf(int(frequencies[n]), count)
            for rows, counts in found:
                times = counts.astype(np.float32)
                norm = np.float32(K1 * (1 - B)) + np.float32(K1 * B / mean) * lengths[rows].astype(np.float32)
                scores[rows] += np.float32(idf * (K1 + 1)) * times / (times + norm)
        most = float(weights.sum()) * (K1 + 1)
        matching = np.flatnonzero(scores > 0)
        if most > 0:
            scores[matching] /= np.float32(most)
        return Scored(matching, scores, distinct, frequencies, count)


def _idf(frequency: int, count: int) -> float:
    return float(np.log1p((count - frequency + 0.5) / (frequency + 0.5)))


def _merged(a: Postings, b: Postings) -> Postings:
    terms = np.concatenate([np.repeat(a.terms, np.diff(a.offsets)), np.repeat(b.terms, np.diff(b.offsets))])
    order = np.argsort(terms, kind="stable")
    distinct, counts = np.unique(terms, return_counts=True)
    return Postings(
        distinct,
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.concatenate([a.rows, b.rows])[order],
        np.concatenate([a.counts, b.counts])[order],
    )
