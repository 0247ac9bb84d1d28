"""What becomes of a draft."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drystone.answer.check import (
    MODEL_FOUND_NOTHING,
    NOTHING_HELD,
    REFUSAL,
    UNFAITHFUL,
    Result,
    check,
    holds,
    plain,
    sentences_of,
)
from drystone.records import Draft, Prompt
from tests.answer.making import RETURNS, SHIPPING, STAFF, TYPED, draft, evidence, generated

E = (*evidence(RETURNS), *evidence(SHIPPING, name="shipping.md", title="Shipping"))
FIRST = "Items may be returned within 45 days of delivery."


def judged(text: str, *, finish: str = "stop", trusted: bool = False) -> Result:
    return check(draft(text, finish), generated(*E), limit=3, trusted=trusted)


def quoted(prompt: Prompt) -> Result:
    return check(Draft("", None), prompt, limit=3)


def test_code_writes_the_quote_and_its_number() -> None:
    one, two = E[0], E[3]
    result = quoted(Prompt("quoted", (), (one, two), STAFF, "p:q", notes=("n",)))
    checked = result.checked
    assert checked.text == f"{FIRST} [1] Delivery abroad takes 6 to 9 days and costs 18 euros. [2]"
    assert [(c.n, c.document, c.quote, c.start, c.end) for c in checked.citations] == [
        (1, "handbook:returns.md", FIRST, 100, 149),
        (2, "handbook:shipping.md", two.quote, two.start, two.end),
    ]
    assert checked.evidence == (one, two) and checked.mode == "quoted" and checked.notes == ("n",)
    assert checked.label == STAFF and all(c.supported and c.page == 3 for c in checked.citations)
    assert result.dropped == 0


@pytest.mark.parametrize("change", [{"quote": FIRST.replace("45", "95")}, {"start": 101, "end": 150}, {"end": 148}, {"start": 0, "end": 49}])  # fmt: skip
def test_a_quote_that_is_not_the_documents_text_is_left_out(change: dict[str, object]) -> None:
    bad = replace(E[0], **change)  # type: ignore[arg-type]
    assert not holds(bad)
    result = quoted(Prompt("quoted", (), (bad, E[3]), STAFF, "p:q"))
    assert len(result.checked.citations) == 1 and result.dropped == 1 and UNFAITHFUL in result.checked.notes
    alone = quoted(Prompt("quoted", (), (bad,), STAFF, "p:q")).checked
    assert (alone.mode, alone.refused, alone.text) == ("refused", "not_supported", REFUSAL)
    phrased = check(draft("Items may be returned within 95 days. [1]"), generated(bad), limit=3).checked
    assert phrased.refused == "not_supported"


def test_a_refusal_says_nothing_of_documents() -> None:
    checked = quoted(Prompt("refused", (), (), TYPED, "p:q")).checked
    assert (checked.text, checked.refused, checked.citations, checked.label) == (REFUSAL, "no_evidence", (), TYPED)


@pytest.mark.parametrize(
    ("quote", "said"),
    [
        ("- one  thing\n here", "one thing here"), ("3. Third", "Third"), ("> said", "said"), ("* a", "a"),
        ("2024 was good", "2024 was good"), ("-5 degrees", "-5 degrees"), ("12.5 litres", "12.5 litres"),
    ],
)  # fmt: skip
def test_marks_of_lists_are_not_said(quote: str, said: str) -> None:
    assert plain(quote) == said


# -- generated ----------------------------------------------------------------------------------------
def test_supported_sentences_stay_with_numbers_in_order_of_use() -> None:
    checked = judged("Delivery abroad costs 18 euros [4]. You may return items within 45 days of delivery. [1]").checked
    assert checked.text == "Delivery abroad costs 18 euros. [1] You may return items within 45 days of delivery. [2]"
    assert [c.document for c in checked.citations] == ["handbook:shipping.md", "handbook:returns.md"]
    assert [c.quote for c in checked.citations] == [E[3].quote, E[0].quote] and checked.mode == "generated"


@pytest.mark.parametrize(
    ("sentence", "failed"),
    [
        ("Items may be returned within 54 days of delivery. [1]", "number"),
        ("Items may be returned within 45 weeks of delivery. [1]", "number"),
        ("Items may not be returned within 45 days of delivery. [1]", "negation"),
        ("Items may be returned to Rotterdam within 45 days of delivery. [1]", "name"),
        ("The customer receives a voucher after complaining loudly. [1]", "meaning"),
        ("All items may always be returned. [1]", "negation"),
        ("Items may be returned within 45 days of delivery at https://evil.example/x. [1]", "link"),
        ("Items may be returned within 45 days of delivery ![x](https://evil.example/?q=1). [1]", "link"),
        ("Items may be returned within 45 days, write to a@evil.example. [1]", "link"),
    ],
)
def test_what_the_evidence_does_not_bear_is_dropped(sentence: str, failed: str) -> None:
    result = judged(f"{sentence} Refunds reach the card in 5 days. [3]")
    assert result.checked.text == "Refunds reach the card in 5 days. [1]"
    assert result.dropped == 1 and "sentences left out: 1" in result.checked.notes
    assert [v["failed"] for v in result.verdicts] == [failed, ""]


def test_a_missing_or_wrong_number_is_put_right_by_code() -> None:
    for text in ("Items may be returned within 45 days of delivery.", f"{FIRST} [4]", f"{FIRST} [99]", f"{FIRST} [0]"):
        result = judged(text)
        assert result.checked.text == f"{FIRST} [1]" and result.checked.citations[0].quote == FIRST
        assert result.verdicts[0]["rests_on"] == [1]


def test_two_numbers_may_bear_one_sentence_together() -> None:
    checked = judged(
        "Items may be returned within 45 days of delivery and refunds reach the card in 5 days. [1][3]"
    ).checked
    assert checked.text.endswith("[1][2]") and len(checked.citations) == 2


def test_nothing_supported_falls_back_to_the_quoted_answer_and_says_so() -> None:
    result = judged("The moon is made of cheese. [1] Cows fly. [2]")
    checked = result.checked
    assert checked.mode == "quoted" and NOTHING_HELD in checked.notes and FIRST in checked.text
    assert result.dropped == 2 and [v["supported"] for v in result.verdicts] == [False, False]


def test_no_model_means_quoted() -> None:
    result = check(Draft("", None, notes=("no permitted model: quoted instead",)), generated(*E), limit=1)
    assert result.checked.mode == "quoted" and "no permitted model: quoted instead" in result.checked.notes


def test_that_there_is_no_answer_is_believed_only_of_a_model_that_passed() -> None:
    assert judged("NOT IN EVIDENCE", trusted=True).checked.refused == "not_supported"
    small = judged("Not in evidence.").checked
    assert small.mode == "quoted" and MODEL_FOUND_NOTHING in small.notes


def test_the_place_that_a_model_copies_is_not_said() -> None:
    assert judged(f"(Returns > Deadlines) {FIRST} [1]").checked.text == f"{FIRST} [1]"
    alone = judged("[1] (Returns > Deadlines)\n[2] (Returns > Deadlines)")
    assert alone.checked.mode == "quoted" and "Deadlines" not in alone.checked.text


def test_a_sentence_cut_off_by_the_limit_is_left_out() -> None:
    result = judged(f"{FIRST} [1] Refunds reach the card in 5", finish="length")
    assert result.checked.text == f"{FIRST} [1]" and result.verdicts[1]["failed"] == "cut off"


def test_a_model_that_repeats_itself_is_quoted_once() -> None:
    assert judged(f"{FIRST} [1] " * 4).checked.text == f"{FIRST} [1]"


def test_a_draft_in_json_names_its_evidence_first() -> None:
    rows = {
        "sentences": [{"evidence": [1], "text": FIRST}, {"evidence": [4], "text": "Delivery abroad costs 18 euros."}]
    }
    for text in (json.dumps(rows), f"```json\n{json.dumps(rows)}\n```"):
        assert judged(text).checked.text == f"{FIRST} [1] Delivery abroad costs 18 euros. [2]"


@pytest.mark.parametrize(
    "text", ['{"sentences": 3}', "{", '{"sentences": [{"text": 1}]}', "[1]", "", "[1][2]", "- ", "\n\n"]
)
def test_a_draft_that_says_nothing_ends_in_quotes(text: str) -> None:
    assert judged(text).checked.mode == "quoted"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A b. [1] C d. [2, 3]", [("A b.", (1,)), ("C d.", (2, 3))]),
        ("- A b [1]\n- C d [2]", [("A b", (1,)), ("C d", (2,))]),
        ("1. A b. [2]\n2. C d.【1】", [("A b.", (2,)), ("C d.", (1,))]),
        ("A b [1]. C d [2][1]!", [("A b.", (1,)), ("C d!", (2, 1))]),
    ],
)
def test_numbers_belong_to_the_sentence_before_them(text: str, expected: list[tuple[str, tuple[int, ...]]]) -> None:
    assert sentences_of(draft(text)) == expected


@given(st.text(max_size=300) | st.lists(st.sampled_from([FIRST, "[1]", "[7]", " ", "Cows fly.", "not", "\n", "{", "45"])).map("".join))  # fmt: skip
def test_whatever_a_model_writes_every_citation_holds(text: str) -> None:
    result = judged(text)
    checked = result.checked
    assert checked.mode in ("quoted", "generated") and checked.citations
    assert [c.n for c in checked.citations] == list(range(1, len(checked.citations) + 1))
    assert len(checked.evidence) == len(checked.citations)
    for cited, item in zip(checked.citations, checked.evidence, strict=True):
        assert f"[{cited.n}]" in checked.text and holds(item) and cited.quote == item.quote
        assert item.hit.text[cited.start - item.hit.start : cited.end - item.hit.start] == cited.quote
