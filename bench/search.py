"""Search by share of readable rows: permitted recall@10, p50 and p95, beside raw faiss; and BM25 over permitted rows.

    python -m bench.search [--quick] [--out FILE]

100,000 and 1,000,000 clustered unit vectors of 384 dimensions. "ours" is ``fuse.rank`` with meaning alone: mask to exact
ten best. "unfiltered" is faiss SQ8 over everything, "after" throws forbidden rows out of its 100 best. ``certified`` is the
share of questions that the bounding codes alone settled. One JSON document is the last line.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from drystone.records import Actor, Classification, Label
from drystone.retrieve import fuse
from drystone.retrieve.allow import Decisions
from drystone.retrieve.scan import Vectors
from drystone.retrieve.words import Postings, Words

D, QUESTIONS = 384, 20


def clustered(n: int, rng: np.random.Generator) -> np.ndarray:
    centres = rng.standard_normal((3000, 48), dtype=np.float32)
    spread = rng.standard_normal((48, D), dtype=np.float32)
    x = np.empty((n, D), np.float32)
    for start in range(0, n, 50_000):
        size = min(50_000, n - start)
        latent = centres[rng.integers(0, 3000, size)] + 0.6 * rng.standard_normal((size, 48), dtype=np.float32)
        part = latent @ spread + 2 * rng.standard_normal((size, D), dtype=np.float32)
        x[start : start + size] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return x


def timed(call: Callable[[int], Any], rounds: int = QUESTIONS) -> tuple[list[Any], dict[str, float]]:
    call(0)
    took, out = [], []
    for n in range(rounds):
        started = time.perf_counter()
        out.append(call(n))
        took.append((time.perf_counter() - started) * 1000)
    return out, {"p50_ms": round(float(np.median(took)), 2), "p95_ms": round(float(np.quantile(took, 0.95)), 2)}


def scan(n: int) -> dict[str, Any]:
    import faiss

    rng = np.random.default_rng(0)
    x = clustered(n, rng)
    queries = x[rng.integers(0, n, QUESTIONS)] + 0.03 * rng.standard_normal((QUESTIONS, D)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    started = time.perf_counter()
    vectors = Vectors(D, 2).grown(x)
    built = time.perf_counter() - started
    raw = faiss.IndexScalarQuantizer(D, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    raw.train(x[:100_000])
    raw.add(x)
    _, unfiltered = timed(lambda q: raw.search(queries[q][None], 10))
    out: dict[str, Any] = {"rows": n, "build_s": round(built, 2), "unfiltered": unfiltered}
    no_words = Words().score(np.empty(0, np.uint64), np.ones(n, bool), n, np.ones(n, np.int32), n)
    truth = np.stack([x @ query for query in queries])
    for share in (0.001, 0.01, 0.1, 0.5, 1.0):
        mask = rng.random(n) < share
        packed, count = np.packbits(mask, bitorder="little"), int(mask.sum())

        def ours(q: int, mask: Any = mask, packed: Any = packed, count: int = count) -> fuse.Ranking:
            return fuse.rank(queries[q], vectors, no_words, mask=mask, packed=packed, count=count, limit=10, weight=1.0)

        found, times = timed(ours)
        after, after_times = timed(lambda q, mask=mask: [r for r in raw.search(queries[q][None], 100)[1][0] if mask[r]])
        recall, recall_after, settled = [], [], 0
        for q in range(QUESTIONS):
            want = set(np.argsort(-np.where(mask, truth[q], -9))[:10].tolist())
            recall.append(len(want & set(found[q].rows.tolist())) / 10)
            recall_after.append(len(want & {int(r) for r in after[q][:10]}) / 10)
            best = vectors.best(queries[q], mask, packed, count, 1024, "bound")
            settled += float(best.scores[9]) > best.ceiling + 1e-5
        out[f"{share:.1%}"] = {
            "ours": {**times, "recall_10": float(np.mean(recall)), "exact": all(r.exact for r in found)},
            "certified": settled / QUESTIONS,
            "forbidden": int(sum(int((~mask[r.rows]).sum()) for r in found)),
            "after": {**after_times, "recall_10": round(float(np.mean(recall_after)), 3)},
        }
        print(n, share, json.dumps(out[f"{share:.1%}"]), flush=True)
    vectors.close()
    return out


def words(n: int) -> dict[str, Any]:
    """Four terms that occur in 30, 5, 0.5 and 0.05 % of passages."""
    rng = np.random.default_rng(1)
    rows = [np.flatnonzero(rng.random(n) < share).astype(np.int32) for share in (0.3, 0.05, 0.005, 0.0005)]
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    counts = rng.integers(1, 5, offsets[-1]).astype(np.uint8)
    index = Words()
    index.append(Postings(np.arange(1, 5, dtype=np.uint64), offsets, np.concatenate(rows), counts))
    lengths = rng.integers(50, 250, n).astype(np.int32)
    out, terms = {}, np.arange(1, 5, dtype=np.uint64)
    for share in (0.01, 0.1, 1.0):
        mask = rng.random(n) < share
        count, total = int(mask.sum()), int(lengths[mask].sum())
        _, out[f"{share:.0%}"] = timed(lambda _, m=mask, c=count, t=total: index.score(terms, m, c, lengths, t))
    return out


def permissions(labels: int) -> dict[str, float]:
    """A new asker before many distinct labels; then one new label."""
    every = [
        Label(frozenset({frozenset({f"user:{n}", f"group:{n % 997}"})}), Classification.internal) for n in range(labels)
    ]
    decisions = Decisions()
    started = time.perf_counter()
    decisions.extend(every)
    read = time.perf_counter() - started

    who = Actor(
        "7", frozenset({"user:7", "group:7", "everyone"}), Classification.internal, "local", None, "asserted by 7"
    )
    started = time.perf_counter()
    allowed = int((decisions.codes(who.sink("general")) == 0).sum())
    asked = time.perf_counter() - started
    return {"labels": labels, "read_once_s": round(read, 3), "new_asker_s": round(asked, 4), "allowed": allowed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20,000 rows")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    sizes = (20_000,) if given.quick else (100_000, 1_000_000)
    result: dict[str, Any] = {"permissions": permissions(20_000 if given.quick else 200_000)}
    result["words"] = {str(n): words(n) for n in sizes}
    print(json.dumps(result), flush=True)
    result["scan"] = {str(n): scan(n) for n in sizes}
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
