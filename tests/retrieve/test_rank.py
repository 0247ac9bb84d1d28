"""The laws of ranking: exact means exact, and what is forbidden has no influence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drystone.retrieve import fuse, scan
from drystone.retrieve.words import K1, B, Postings, Words

D = 24


def unit(rng: np.random.Generator, n: int) -> np.ndarray:
    centres = rng.standard_normal((5, D))
    x = centres[rng.integers(0, 5, n)] + 0.5 * rng.standard_normal((n, D))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def postings(texts: Sequence[Sequence[int]], first: int = 0) -> Postings:
    found: dict[int, dict[int, int]] = {}
    for row, text in enumerate(texts, first):
        for term in text:
            found.setdefault(term, {})[row] = found.setdefault(term, {}).get(row, 0) + 1
    terms = sorted(found)
    rows = [row for t in terms for row in sorted(found[t])]
    counts = [found[t][row] for t in terms for row in sorted(found[t])]
    sizes = np.cumsum([0, *(len(found[t]) for t in terms)])
    return Postings(
        np.array(terms, np.uint64), sizes.astype(np.int64), np.array(rows, np.int32), np.array(counts, np.uint8)
    )


def store(x: np.ndarray, texts: list[list[int]], cuts: Sequence[int] = ()) -> tuple[scan.Vectors, Words, np.ndarray]:
    vectors, words = scan.Vectors(D, 1), Words()
    for a, b in zip([0, *cuts], [*cuts, len(x)], strict=True):
        vectors = vectors.grown(x[a:b])
        words.append(postings(texts[a:b], a))
    return vectors, words, np.array([len(t) for t in texts], np.int32)


def search(vectors, words, lengths, query, terms, mask, limit=5):  # type: ignore[no-untyped-def]
    scored = words.score(np.array(terms, np.uint64), mask, int(mask.sum()), lengths, int(lengths[mask].sum()))
    packed = np.packbits(mask, bitorder="little")
    return fuse.rank(
        query, vectors, scored, mask=mask, packed=packed, count=int(mask.sum()), limit=limit
    )  # fmt: skip


TEXT = st.lists(st.integers(1, 12), min_size=1, max_size=8)


@given(st.lists(st.tuples(TEXT, st.booleans()), min_size=1, max_size=40), st.lists(st.integers(1, 14), max_size=5),
       st.integers(0, 99), st.integers(0, 40))  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_results_equal_those_of_a_store_without_what_is_forbidden(
    rows: list[tuple[list[int], bool]], terms: list[int], seed: int, cut: int
) -> None:
    rng = np.random.default_rng(seed)
    texts, mask = [text for text, _ in rows], np.array([seen for _, seen in rows])
    x, query = unit(rng, len(rows)), unit(rng, 1)[0]
    mine = np.flatnonzero(mask)
    with_all = search(*store(x, texts, [min(cut, len(rows))]), query, terms, mask)
    alone = search(*store(x[mask], [texts[i] for i in mine]), query, terms, np.ones(len(mine), bool))
    assert with_all.rows.tolist() == mine[alone.rows].tolist()
    np.testing.assert_allclose(with_all.scores, alone.scores, atol=1e-6)
    assert with_all.exact and alone.exact and mask[with_all.rows].all()


@given(st.lists(TEXT, min_size=1, max_size=30), st.lists(st.integers(1, 14), max_size=5), st.integers(0, 30))
@settings(max_examples=80, deadline=None)
def test_words_are_bm25(texts: list[list[int]], terms: list[int], cut: int) -> None:
    words, lengths = Words(), np.array([len(t) for t in texts], np.int32)
    for a, b in ((0, min(cut, len(texts))), (min(cut, len(texts)), len(texts))):
        words.append(postings(texts[a:b], a))
    n, mean = len(texts), lengths.mean()
    mask = np.ones(n, bool)
    found = words.score(np.array(terms, np.uint64), mask, n, lengths, int(lengths.sum()))
    expected, most = np.zeros(n), 0.0
    for term in set(terms):
        frequency = sum(term in text for text in texts)
        idf = np.log(1 + (n - frequency + 0.5) / (frequency + 0.5))
        most += idf * (K1 + 1)
        for i, text in enumerate(texts):
            times = text.count(term)
            expected[i] += idf * (K1 + 1) * times / (times + K1 * (1 - B + B * len(text) / mean))
    np.testing.assert_allclose(found.scores, expected / most if most else expected, atol=1e-5)


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_the_ceiling_holds_and_the_ranking_is_the_brute_one(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "LEAF", 2048)  # several leaves, with codes, in a small test
    monkeypatch.setattr(scan, "SMALL", 64)
    monkeypatch.setattr(scan, "LEADING", (4, 8))
    rng = np.random.default_rng(7)
    x = unit(rng, 7000)
    x[5000:5050] = x[10]  # passages that are equal
    x[100] = 0  # without a vector
    vectors = scan.Vectors(D, 2)
    for a, b in ((0, 1000), (1000, 1001), (1001, 6500), (6500, 7000)):
        vectors = vectors.grown(x[a:b])
    assert len(vectors) == 7000 and np.array_equal(vectors.take(np.arange(7000)), x)
    mask = rng.random(7000) < share
    mask[[10, 5000, 5049]] = True
    packed, count = np.packbits(mask, bitorder="little"), int(mask.sum())
    words = Words()
    words.append(postings([[int(t) for t in rng.integers(1, 40, 6)] for _ in range(7000)]))
    lengths = np.full(7000, 6, np.int32)
    for query in [*unit(rng, 8), x[10]]:
        truth = x @ query
        for stage in ("bound", "codes"):
            best = vectors.best(query, mask, packed, count, 128, stage)  # type: ignore[arg-type]
            rest = mask.copy()
            rest[best.rows] = False
            assert mask[best.rows].all() and best.ceiling >= truth[rest].max(initial=-np.inf)
            np.testing.assert_allclose(best.scores, truth[best.rows], atol=1e-5)
        found = search(vectors, words, lengths, query, [1, 2, 3], mask, limit=10)
        scored = words.score(np.array([1, 2, 3], np.uint64), mask, count, lengths, 6 * count)
        exact = 0.5 * (x.astype(np.float64) * query).sum(1) + 0.5 * scored.scores
        order = np.lexsort((np.arange(7000), -np.round(exact, 9), ~mask))[:10]
        assert found.rows.tolist() == order.tolist() and found.exact
    vectors.close()


def test_segments_merge_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    texts = [[int(t) for t in rng.integers(1, 30, 9)] for _ in range(300)]
    one, many = Words(), Words()
    one.append(postings(texts))
    for i in range(0, 300, 3):
        many.append(postings(texts[i : i + 3], i))
    assert len(many._segments) < 8
    lengths, mask = np.full(300, 9, np.int32), rng.random(300) < 0.5
    a, b = (
        w.score(np.arange(1, 6, dtype=np.uint64), mask, int(mask.sum()), lengths, 9 * int(mask.sum()))
        for w in (one, many)
    )
    assert np.array_equal(a.scores, b.scores)


def test_parts_of_a_request_vote() -> None:
    def ranking(rows: list[int], scores: list[float]) -> fuse.Ranking:
        return fuse.Ranking(np.array(rows), np.array(scores), np.array(scores), True)

    merged = fuse.merge(ranking([1, 2], [0.9, 0.1]), [ranking([3, 2], [0.8, 0.7]), ranking([3], [0.6])], 3)
    assert merged.rows.tolist() == [1, 3, 2] or merged.rows.tolist() == [3, 1, 2]
    assert merged.scores[0] <= 1 and merged.exact


def test_a_search_that_runs_is_not_disturbed_by_what_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "SMALL", 64)
    rng = np.random.default_rng(11)
    x, mask = unit(rng, 3000), np.ones(1000, bool)
    packed, query = np.packbits(mask, bitorder="little"), unit(rng, 1)[0]
    first = scan.Vectors(D, 2).grown(x[:1000])
    before = first.best(query, mask, packed, 1000, 100)
    last = first
    for start in range(1000, 3000, 250):  # codes are added to, and trained anew, in successors alone
        last = last.grown(x[start : start + 250])
        again = first.best(query, mask, packed, 1000, 100)
        assert again.rows.tolist() == before.rows.tolist() and again.ceiling == before.ceiling
    assert len(first) == 1000 and len(last) == 3000 and np.array_equal(last.take(np.arange(3000)), x)
    words = Words()
    words.append(postings([[1], [2]]))
    more = Words(words)
    more.append(postings([[1]], 2))
    assert words.frequency(np.uint64(1), np.ones(3, bool)) == 1 and more.frequency(np.uint64(1), np.ones(3, bool)) == 2
