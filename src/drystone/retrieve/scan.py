"""Comparing one question with every permitted vector, exactly. The only importer of faiss.

Guarantees: what ``Vectors.best`` returns are true float32 inner products, and no permitted row that it leaves
out scores above the ``ceiling`` it returns with them. So a caller knows what it has not seen: a ranking is
exact as soon as its last kept row beats the ceiling, and ``best`` can be asked again with a larger ``depth``.

How: rows lie in leaves of 131,072. A leaf keeps the float32 rows (the one full copy), 8-bit codes of them, and
8-bit codes of ``[first m principal coordinates, norm of the rest]``, whose inner product with the question's own
``[coordinates, norm of the rest]`` is by Cauchy-Schwarz an upper bound of the true score. For both kinds of codes
the largest distance between a row and its decoded code is measured when they are made, so that
``|q.x - q.code(x)| <= |q| * distance`` holds for every row and not only on average.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Stage = Literal["bound", "codes"]

LEAF = 131_072  # rows of a leaf; a multiple of 8, so that a packed mask can be sliced
SMALL = 2048  # permitted rows up to which they are gathered and compared directly, as are up to 1 % of all
LEADING = 63  # principal coordinates of the bounding codes
_ROUNDING = np.float32(4e-6)  # of float32 inner products of unit vectors, in either order of summation


@dataclass(frozen=True, slots=True)
class Best:
    """``rows`` with their true scores, best first; any other permitted row scores at most ``ceiling``."""

    rows: Rows
    scores: Floats
    ceiling: float


class _Leaf:
    """Up to ``LEAF`` rows, their codes and how far off these are."""

    def __init__(self, dimensions: int) -> None:
        self.x: Floats = np.empty((0, dimensions), np.float32)
        self.count = 0
        self.coded = 0  # rows that have codes
        self.trained = 0  # rows when the codes were trained
        self.codes: Any = None
        self.bounds: Any = None
        self.axes: Floats | None = None
        self.code_error = self.bound_error = 0.0

    def append(self, rows: Floats) -> None:
        need = self.count + len(rows)
        if self.count == 0 and len(rows) == LEAF:
            self.x = rows  # a full leaf is a view of what was read
        else:
            if need > len(self.x) or not self.x.flags.writeable:
                grown = np.empty((min(LEAF, max(need, 2 * len(self.x), 1024)), rows.shape[1]), np.float32)
                grown[: self.count] = self.x[: self.count]
                self.x = grown
            self.x[self.count : need] = rows
        self.count = need

    def encode(self) -> None:
        """Codes for the rows that have none; trained anew when the leaf has doubled."""
        import faiss

        if self.count < SMALL:
            return
        x = self.x[: self.count]
        if self.count >= 2 * self.trained:
            d = x.shape[1]
            sample = x[:: max(1, self.count // 4096)]
            _, axes = np.linalg.eigh(sample.T @ sample)
            self.axes = np.ascontiguousarray(axes[:, ::-1][:, : min(LEADING, d)], np.float32)
            self.codes = _quantizer(faiss, d)
            self.bounds = _quantizer(faiss, self.axes.shape[1] + 1)
            self.codes.train(x)  # on all rows: a value outside of the trained range would be cut off
            self.bounds.train(self._outline(x))
            self.trained, self.coded, self.code_error, self.bound_error = self.count, 0, 0.0, 0.0
        for start in range(self.coded, self.count, 16384):
            block = x[start : start + 16384]
            self.code_error = max(self.code_error, _add(self.codes, block))
            self.bound_error = max(self.bound_error, _add(self.bounds, self._outline(block)))
        self.coded = self.count

    def _outline(self, x: Floats) -> Floats:
        assert self.axes is not None  # trained before anything is outlined
        lead = x @ self.axes
        rest = np.sqrt(np.maximum(np.einsum("ij,ij->i", x, x) - np.einsum("ij,ij->i", lead, lead), 0.0))
        return np.concatenate([lead, rest[:, None].astype(np.float32)], axis=1)

    def search(self, query: Floats, packed: NDArray[np.uint8], k: int, stage: Stage) -> tuple[Rows, float]:
        """Local rows of the k best by code, and a ceiling for the rest of the leaf's permitted rows."""
        import faiss

        engine: Any = faiss  # its stubs do not know the arrays that it takes
        index, error = (self.bounds, self.bound_error) if stage == "bound" else (self.codes, self.code_error)
        asked = self._outline(query[None]) if stage == "bound" else query[None]
        parameters = engine.SearchParameters(sel=engine.IDSelectorBitmap(packed))
        scores, found = index.search(asked, k, params=parameters)
        rows = found[0][found[0] >= 0]
        if len(rows) < k:
            return rows, -np.inf  # every permitted row of the leaf is among them
        length = float(np.linalg.norm(asked))
        return rows, float(scores[0][-1]) + length * (error + float(_ROUNDING))


def _quantizer(faiss: Any, d: int) -> Any:
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


class Vectors:
    """All vectors of one generation, in the order they were appended. Thread-safe for one appender."""

    def __init__(self, dimensions: int, threads: int = 2) -> None:
        self.dimensions = dimensions
        self._leaves: list[_Leaf] = []
        self._threads = max(1, threads)
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return sum(leaf.count for leaf in self._leaves)

    def append(self, vectors: Floats) -> None:
        """Rows of length 1, shape (n, dimensions); row numbers go on from ``len(self)``."""
        import faiss

        faiss.omp_set_num_threads(1)
        start = 0
        with self._lock:
            while start < len(vectors):
                if not self._leaves or self._leaves[-1].count == LEAF:
                    self._leaves.append(_Leaf(self.dimensions))
                leaf = self._leaves[-1]
                stop = min(len(vectors), start + LEAF - leaf.count)
                leaf.append(vectors[start:stop])
                start = stop
            self._each(lambda leaf: leaf.encode(), [leaf for leaf in self._leaves if leaf.coded < leaf.count])

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
            if not leaf.coded:
                return np.flatnonzero(mask[start : start + leaf.count]) + start, -np.inf
            rows, ceiling = leaf.search(query, packed[start // 8 : (start + leaf.count + 7) // 8], share, stage)
            return rows + start, ceiling

        parts = self._each(one, list(range(len(self._leaves))))
        rows = np.concatenate([part[0] for part in parts])
        scores = self.scores(query, rows)
        order = np.lexsort((rows, -scores))
        return Best(rows[order], scores[order], max(part[1] for part in parts))

    def _each(self, work: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        if self._threads == 1 or len(items) < 2:
            return [work(item) for item in items]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="scan")
        return list(self._pool.map(work, items))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
