"""Which sentences an answer can rest on, and in which order. By words alone: no embedder is needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drystone.index.sentences import sentences
from drystone.index.terms import Analyser
from drystone.records import Evidence, Hit
from drystone.retrieve.evidence import Question, Reader, content
from tests.retrieve.house import EVERYONE

BUDGET = """\
Budget by cost centre:

cost centre | owner | spent to October
cost centre: marketing | owner: Lotte | spent to October: 548000
cost centre: engineering | owner: Dev | spent to October: 1190000
cost centre: stores | owner: Marc | spent to October: 1985000"""


def no_vectors(texts: object) -> NDArray[np.float32]:
    raise AssertionError("nothing is embedded where a question has no vector")


def read(question: str, *texts: str) -> tuple[Evidence, ...]:
    """Evidence for a question whose words all weigh the same."""
    terms = Analyser(b"test").terms
    asked = np.unique(terms(content(question)))
    hits = [
        Hit(f"c:{n}", f"docs:{n}", f"v:{n}", "Figures", text, 1.0, 50, 50 + len(text), EVERYONE, n)
        for n, text in enumerate(texts)
    ]
    reader = Reader(embed=no_vectors, terms=terms, sentences=sentences)
    return reader.read(Question(question, asked, np.ones(len(asked)), None), hits, [0.0] * len(hits), 0.5)[0]


def test_of_a_table_the_row_that_has_the_words_of_the_question_comes_first_by_far() -> None:
    found = read("How much was spent by engineering to October?", BUDGET)
    assert found[0].quote.startswith("cost centre: engineering")
    assert all(e.score < 0.85 * found[0].score for e in found[1:])


def test_a_row_of_a_table_stands_alone_and_a_sentence_among_its_neighbours() -> None:
    for e in read("How much was spent by engineering to October?", BUDGET):
        assert ("\n" in e.around) == ("|" not in e.quote)
    text = "Parcels leave at noon. They take two days. Rain does not matter."
    assert {e.quote: e.around for e in read("When do parcels leave?", text)}["They take two days."] == text


def test_the_first_line_of_a_table_is_no_evidence() -> None:
    assert not [e for e in read("Which cost centre has an owner?", BUDGET) if e.quote.startswith("cost centre | ")]
    unnamed = "North | South\nreturns | North: 30 days | South: 45 days"  # its first column has no name
    assert [e.quote[:7] for e in read("returns in the north", unnamed)] == ["returns"]
    only = "North | South"  # nothing below repeats it, so it is a row like any other
    assert [e.quote for e in read("returns in the north", only)] == [only]


def test_evidence_is_a_slice_of_its_document_best_first() -> None:
    found = read("Who owns the stores?", BUDGET, "Stores open at nine. Marc owns the stores.")
    scores = [e.score for e in found]
    assert scores == sorted(scores, reverse=True) and all(0 <= s <= 1 for s in scores)
    assert all(e.hit.text[e.start - e.hit.start : e.end - e.hit.start] == e.quote for e in found)
