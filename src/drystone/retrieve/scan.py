"""Comparing one question with every permitted vector, exactly. The only importer of faiss.

Guarantees: what ``Vectors.best`` returns are true float32 inner products, and no permitted row that it leaves
out scores above the ``ceiling`` it returns with them. So a caller knows what it has not seen: a ranking is
exact as soon as its last kept row beats the ceiling, and ``best`` can be asked again with a larger ``depth``.

How: rows lie in leaves of 131,072. A leaf keeps the float32 rows (the one full copy), 8-bit codes of them, and
8-bit codes of ``[leading principal coordinates, norm of the rest]``, whose inner product with the question's own
``[coordinates, norm of the rest]`` is by Cauchy-Schwarz an upper bound of the true score. For both kinds of codes
the largest distance between a row and its decoded code is measured when they are made, so that
``|q.x - q.code(x)| <= |q| * distance`` holds for every row and not only on average.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Stage = Literal["bound", "codes"]

LEAF = 131_072  # rows of a leaf; a multiple of 8, so that a packed mask can be sliced
SMALL = 2048  # permitted rows up to which they are gathered and compared directly, as are up to 1 % of all
LEADING = (63, 127, 191)  # principal coordinates of the bounding codes: the fewest that leave out little
LEFT_OUT = 0.1  # share of the squared length that they may leave out
_ROUNDING = np.float32(4e-6)  # of float32 inner products of unit vectors, in either order of summation


@dataclass(frozen=True, slots=True)
class Best:
    """``rows`` with their true scores, best first; any other permitted row scores at most ``ceiling``."""

    rows: Rows
    scores: Floats
    ceiling: float


@dataclass(frozen=True, slots=True)
class _Leaf:
    """Up to ``LEAF`` rows, codes of the first ``coded`` of them, and how far off these are. Never changed: a search
    that runs keeps the leaf that it began with. ``x`` may have room for rows that only a successor counts."""

    x: Floats
    count: int
    coded: int = 0
    trained: int = 0  # rows when the codes were trained
    codes: Any = None
    bounds: Any = None
    axes: Floats | None = None
    code_error: float = 0.0
    bound_error: float = 0.0

    def grown(self, rows: Floats) -> _Leaf:
        need = self.count + len(rows)
        if self.count == 0 and len(rows) == LEAF:
            return replace(self, x=rows, count=need)  # a full leaf is a view of what was read
        x = self.x
        if need > len(x):
            x = np.empty((min(LEAF, max(need, 2 * len(x), 1024)), rows.shape[1]), np.float32)
            x[: self.count] = self.x[: self.count]
        x[self.count : need] = rows
        return replace(self, x=x, count=need)

    def encoded(self) -> _Leaf:
        """With codes for its rows, once more than ``SMALL`` have none; trained anew when the leaf has doubled."""
        import faiss

        if self.count - self.coded < (SMALL if self.count < LEAF else 1):
            return self
        x, d = self.x[: self.count], self.x.shape[1]
        if self.count >= 2 * self.trained:
            sample = x[:: max(1, self.count // 4096)]
            energy, axes = np.linalg.eigh(sample.T.astype(np.float64) @ sample)
            rest = 1 - np.cumsum(energy[::-1]) / max(float(energy.sum()), 1e-12)
            few = next((n for n in LEADING if n >= d or rest[n - 1] <= LEFT_OUT), LEADING[-1])
            axes = np.ascontiguousarray(axes[:, ::-1][:, :few], np.float32)
            codes, bounds, coded, code_error, bound_error = _quantizer(d), _quantizer(axes.shape[1] + 1), 0, 0.0, 0.0
            codes.train(x)  # on all rows: a value outside of the trained range would be cut off
            bounds.train(_outline(x, axes))
            trained = self.count
        else:
            assert self.axes is not None  # trained before
            axes, trained, coded = self.axes, self.trained, self.coded
            codes, bounds = faiss.clone_index(self.codes), faiss.clone_index(self.bounds)
            code_error, bound_error = self.code_error, self.bound_error
        for start in range(coded, self.count, 16384):
            block = x[start : start + 16384]
            code_error = max(code_error, _add(codes, block))
            bound_error = max(bound_error, _add(bounds, _outline(block, axes)))
        return _Leaf(x=self.x, count=self.count, coded=self.count, trained=trained, codes=codes, bounds=bounds,
                     axes=axes, code_error=code_error, bound_error=bound_error)  # fmt: skip

    def search(
        self, query: Floats, mask: NDArray[np.bool_], packed: NDArray[np.uint8], k: int, stage: Stage
    ) -> tuple[Rows, float]:
        """Local rows of the k best by code and all that have none, and a ceiling for the other permitted rows."""
        import faiss

        engine: Any = faiss  # its stubs do not know the arrays that it takes
        tail = np.flatnonzero(mask[self.coded : self.count]) + self.coded
        if self.axes is None:
            return tail, -np.inf
        index, error = (self.bounds, self.bound_error) if stage == "bound" else (self.codes, self.code_error)
        asked = _outline(query[None], self.axes) if stage == "bound" else query[None]
        parameters = engine.SearchParameters(sel=engine.IDSelectorBitmap(packed))
        scores, found = index.search(asked, k, params=parameters)
        rows = found[0][found[0] >= 0]
        # With fewer than k, every permitted row is among them.
        length = float(np.linalg.norm(asked)) * (error + float(_ROUNDING))
        ceiling = float(scores[0][-1]) + length if len(rows) == k else -np.inf
        return np.concatenate([rows, tail]), ceiling


def _outline(x: Floats, axes: Floats) -> Floats:
    """Principal coordinates, and the norm of what they leave out."""
    lead = x @ axes
    rest = np.sqrt(np.maximum(np.einsum("ij,ij->i", x, x) - np.einsum("ij,ij->i", lead, lead), 0.0))
    return np.concatenate([lead, rest[:, None].astype(np.float32)], axis=1)


def _quantizer(d: int) -> Any:
    import faiss

    return faiss.IndexScalarQuantizer(d, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)


def _add(index: Any, block: Floats) -> float:
    """Adds rows; returns the largest distance between a row and its decoded code."""
    start = index.ntotal
    index.add(np.ascontiguousarray(block))
    off = block - index.reconstruct_n(start, len(block))
    return float(np.sqrt(np.einsum("ij,ij->i", off, off).max()))


def _products(x: Floats, rows: Rows, query: Floats) -> Floats:
    """Gathered in blocks that stay in the cache. Not by BLAS, whose threads fight with ours over busy cores."""
    out = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), 1024):
        np.einsum("ij,j->i", x[rows[start : start + 1024]], query, out=out[start : start + 1024])
    return out


class _Threads:
    """Threads for a scan, started at the first one that needs them."""

    def __init__(self, count: int) -> None:
        self._count, self._lock = max(1, count), threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def each(self, work: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        if self._count == 1 or len(items) < 2:
            return [work(item) for item in items]
        with self._lock:
            self._pool = self._pool or ThreadPoolExecutor(self._count, thread_name_prefix="scan")
        return list(self._pool.map(work, items))

    def close(self) -> None:
        with self._lock:
            if self._pool is not None:
                self._pool.shutdown()
                self._pool = None


class Vectors:
    """All vectors of one generation, in the order they came. Never changed: ``grown`` gives a successor that shares
    what it can, so a search that runs is not disturbed. One line of successors only."""

    def __init__(self, dimensions: int, threads: int = 2) -> None:
        self.dimensions = dimensions
        self._leaves: list[_Leaf] = []
        self._threads = _Threads(threads)

    def __len__(self) -> int:
        return sum(leaf.count for leaf in self._leaves)

    def grown(self, vectors: Floats) -> Vectors:
        """With rows of length 1 (or 0), shape (n, dimensions); row numbers go on from ``len(self)``."""
        import faiss

        faiss.omp_set_num_threads(1)
        after = Vectors(self.dimensions)
        after._threads, leaves, start, first = self._threads, list(self._leaves), 0, max(0, len(self._leaves) - 1)
        while start < len(vectors):
            if not leaves or leaves[-1].count == LEAF:
                leaves.append(_Leaf(np.empty((0, self.dimensions), np.float32), 0))
            stop = min(len(vectors), start + LEAF - leaves[-1].count)
            leaves[-1] = leaves[-1].grown(vectors[start:stop])
            start = stop
        after._leaves = leaves[:first] + self._each(lambda leaf: leaf.encoded(), leaves[first:])
        return after

    def take(self, rows: Rows) -> Floats:
        """The float32 rows themselves, shape (len(rows), dimensions)."""
        out = np.empty((len(rows), self.dimensions), np.float32)
        home = rows // LEAF
        for number in np.unique(home):
            mine = home == number
            out[mine] = self._leaves[number].x[rows[mine] - number * LEAF]
        return out

    def scores(self, query: Floats, rows: Rows) -> Floats:
        """True inner products of the given rows."""
        out = np.empty(len(rows), np.float32)
        home = rows // LEAF

        def one(number: int) -> None:
            mine = home == number
            out[mine] = _products(self._leaves[number].x, rows[mine] - number * LEAF, query)

        self._each(one, np.unique(home).tolist())
        return out

    def every(self, query: Floats) -> Floats:
        """True inner products of all rows: what nothing else could certify."""
        parts = self._each(lambda leaf: np.einsum("ij,j->i", leaf.x[: leaf.count], query), list(self._leaves))
        return np.concatenate(parts)

    def best(
        self, query: Floats, mask: NDArray[np.bool_], packed: NDArray[np.uint8], count: int,
        depth: int, stage: Stage = "bound",
    ) -> Best:  # fmt: skip
        """At least the ``depth`` best by ``stage`` among the ``count`` rows of ``mask`` (``packed``: its bits)."""
        if count <= max(SMALL, depth, len(self) // 100):
            rows = np.flatnonzero(mask)
            scores = self.scores(query, rows)
            order = np.lexsort((rows, -scores))
            return Best(rows[order], scores[order], -np.inf)
        share = max(16, -(-depth // len(self._leaves)))

        def one(n: int) -> tuple[Rows, float]:
            leaf, start = self._leaves[n], n * LEAF
            stop = start + leaf.count
            rows, ceiling = leaf.search(
                query, mask[start:stop], packed[start // 8 : (start + leaf.coded + 7) // 8], share, stage
            )
            return rows + start, ceiling

        parts = self._each(one, list(range(len(self._leaves))))
        rows = np.concatenate([part[0] for part in parts])
        scores = self.scores(query, rows)
        order = np.lexsort((rows, -scores))
        return Best(rows[order], scores[order], max(part[1] for part in parts))

    def _each(self, work: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        return self._threads.each(work, items)

    def close(self) -> None:
        self._threads.close()
