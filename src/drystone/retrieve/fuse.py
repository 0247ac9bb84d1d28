"""One ranking from meaning and words, and from the parts of a long request.

Guarantees: a row's score is ``w * cosine + (1 - w) * bm25 / (most that bm25 could be)``: both parts have a fixed scale,
so nothing of the population enters but the frequencies that ``words`` counts over permitted rows. A ranking that
says ``exact`` is the one that scoring every permitted row in float64 would give, ties by row.

Why not ranks: reciprocal rank fusion throws the distances away. Measured in ``bench/quality.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drystone.retrieve.scan import Floats, Rows, Stage, Vectors
from drystone.retrieve.words import Scored

WEIGHT = 0.5  # of meaning; flat between 0.4 and 0.6 on SciFact and Cranfield
PART = 10  # best rows of a part that vote
WHOLE = 50  # rows of the whole request that are merged with them
_TIE = 1e-5  # float32 scores nearer than this are compared in float64
_STEPS: tuple[tuple[Stage, int], ...] = (("bound", 1024), ("codes", 256), ("codes", 4096))


@dataclass(frozen=True, slots=True)
class Ranking:
    rows: Rows
    scores: NDArray[np.float64]
    cosines: NDArray[np.float64]
    exact: bool


def rank(
    query: Floats | None, vectors: Vectors | None, words: Scored, *, mask: NDArray[np.bool_],
    packed: NDArray[np.uint8], count: int, limit: int, weight: float = WEIGHT,
) -> Ranking:  # fmt: skip
    """The ``limit`` best of the ``count`` permitted rows. ``query`` ``None``: by words alone."""
    if query is None or vectors is None or weight <= 0:
        rows = _top(words.rows, words.scores[words.rows], limit)
        return _final(rows, None, None, words.scores, 0.0, limit)
    seeds = _top(words.rows, words.scores[words.rows], 4 * limit)
    for stage, depth in _STEPS:
        best = vectors.best(query, mask, packed, count, max(depth, 2 * limit), stage)
        rows = np.union1d(best.rows, seeds)
        fused = weight * vectors.scores(query, rows) + (1 - weight) * words.scores[rows]
        last = _last(fused, limit)
        if len(rows) < count:  # what was left out has a cosine of at most the ceiling
            if last <= weight * best.ceiling + _TIE:
                continue
            least = (last - weight * best.ceiling - _TIE) / (1 - weight) if weight < 1 else np.inf
            more = words.rows[words.scores[words.rows] >= least]
            if len(more) > 20_000:
                continue
            rows = np.union1d(rows, more)
            fused = weight * vectors.scores(query, rows) + (1 - weight) * words.scores[rows]
        return _final(_top(rows, fused, limit), query, vectors, words.scores, weight, limit)
    rows = np.flatnonzero(mask)
    fused = weight * vectors.every(query)[rows] + (1 - weight) * words.scores[rows]
    return _final(_top(rows, fused, limit), query, vectors, words.scores, weight, limit)


def merge(whole: Ranking, parts: Sequence[Ranking], limit: int) -> Ranking:
    """A long request: its rows vote, and the ``PART`` best of every part with the square of their score.

    Both votes are scaled to a best of 1 and their mean is the score. Exact if all rankings are.
    """
    votes: dict[int, float] = {}
    for part in parts:
        for row, score in zip(part.rows[:PART].tolist(), part.scores[:PART].tolist(), strict=True):
            votes[row] = votes.get(row, 0.0) + score * score
    most = max(votes.values(), default=0.0) or 1.0
    first = float(whole.scores[0]) if len(whole.rows) and whole.scores[0] > 0 else 1.0
    cosine = {r: c for part in (*parts, whole) for r, c in zip(part.rows.tolist(), part.cosines.tolist(), strict=True)}
    total = {row: vote / most / 2 for row, vote in votes.items()}
    for row, score in zip(whole.rows.tolist(), whole.scores.tolist(), strict=True):
        total[row] = total.get(row, 0.0) + score / first / 2
    order = sorted(total, key=lambda row: (-round(total[row], 9), row))[:limit]
    return Ranking(
        np.array(order, np.int64),
        np.array([total[row] for row in order], np.float64),
        np.array([cosine[row] for row in order], np.float64),
        whole.exact and all(part.exact for part in parts),
    )


def _last(fused: NDArray[np.floating], limit: int) -> float:
    return float(np.partition(fused, -limit)[-limit]) if len(fused) >= limit else -np.inf


def _top(rows: Rows, scores: NDArray[np.floating], limit: int) -> Rows:
    """At least the ``limit`` best: all that could be among them once compared in float64."""
    if len(rows) <= limit:
        return rows
    return rows[scores >= _last(scores, limit) - _TIE]


def _final(
    rows: Rows, query: Floats | None, vectors: Vectors | None, words: Floats, weight: float, limit: int
) -> Ranking:
    """Scores in float64, row by row, so that equal passages get equal scores wherever they lie."""
    cosines = np.zeros(len(rows), np.float64)
    if query is not None and vectors is not None:
        cosines = (vectors.take(rows).astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    scores = weight * cosines + (1 - weight) * words[rows].astype(np.float64)
    order = np.lexsort((rows, -np.round(scores, 9)))[:limit]
    return Ranking(rows[order].astype(np.int64), scores[order], cosines[order], True)
