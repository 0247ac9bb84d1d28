"""Words: one analyser for both sides, keyed hashes, identifiers, scripts without spaces."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drystone.index.terms import Analyser

ANALYSER = Analyser(b"a key")


def same(a: str, b: str) -> bool:
    return ANALYSER.terms(a).tolist() == ANALYSER.terms(b).tolist()


def shared(question: str, text: str) -> int:
    return len(set(ANALYSER.terms(question).tolist()) & set(ANALYSER.terms(text).tolist()))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("returning", "returns"),
        ("Café", "cafe"),
        ("STRASSE", "Straße"),
        ("the refund", "Refunds"),
        ("résumé's", "resume"),
        ("ｆｕｌｌ", "full"),
        ("مُحَمَّد", "محمد"),
    ],
)
def test_the_same_word(a: str, b: str) -> None:
    assert same(a, b) and len(ANALYSER.terms(a)) >= 1


@pytest.mark.parametrize(("a", "b"), [("no", ""), ("not", ""), ("दिन", "दीन"), ("45", "54"), ("E-4711", "E-4712")])
def test_not_the_same_word(a: str, b: str) -> None:
    assert not same(a, b)


def test_identifiers_are_found_whole_and_by_parts() -> None:
    text = "Error E-4711 under ISO-27001, mail bo@example.com"
    assert shared("iso-27001", text) == 3 and shared("27001", text) == 1
    assert shared("4711", text) == 1 and shared("example.com", text) == 2


def test_scripts_without_spaces_are_pairs_and_others_are_words() -> None:
    assert len(ANALYSER.terms("東京都庁")) == 3 and shared("京都", "東京都庁") == 1
    assert len(ANALYSER.terms("नमस्ते दुनिया")) == 2
    assert len(ANALYSER.terms("庁")) == 1


def test_without_the_key_a_term_says_nothing() -> None:
    other = Analyser(b"another key")
    assert shared("refund", "refund") == 1
    assert not set(other.terms("refund stove").tolist()) & set(ANALYSER.terms("refund stove").tolist())


@given(st.lists(st.text(st.sampled_from("abc de1-.é東京न् "), max_size=40), max_size=8))
def test_counting_many_texts_is_counting_each(texts: list[str]) -> None:
    counts = ANALYSER.count(texts)
    expected = [Counter(ANALYSER.terms(text).tolist()) for text in texts]
    found = [Counter[int]() for _ in texts]
    for term, text, times in zip(counts.term.tolist(), counts.text.tolist(), counts.times.tolist(), strict=True):
        found[text][term] = times
    assert found == expected
    assert counts.tokens.tolist() == [sum(e.values()) for e in expected]
    order = list(zip(counts.term.tolist(), counts.text.tolist(), strict=True))
    assert order == sorted(set(order))


def test_many_of_the_same_word_stop_at_255() -> None:
    assert ANALYSER.count(["stove " * 300]).times.tolist() == [255]
    assert ANALYSER.count(["stove " * 300]).tokens.tolist() == [300]


def test_threads_share_an_analyser() -> None:
    analyser, texts = Analyser(b"a key"), [f"running w{n} returned deliveries{n}" for n in range(500)]
    found: list[list[np.ndarray]] = []
    threads = [threading.Thread(target=lambda: found.append([analyser.terms(t) for t in texts])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [ANALYSER.terms(t).tolist() for t in texts]
    assert [[t.tolist() for t in terms] for terms in found] == [expected] * 4


def test_golden() -> None:
    """These are in every index that exists: if they change, ``terms.VERSION`` and all postings must."""
    assert ANALYSER.terms("Refunds for ISO-27001").tolist() == GOLDEN


GOLDEN = [5672925736491336004, 16395245867505792646, 18164778755201031214, 11992632036179697881]
