"""The support check, sentence by sentence. How often it errs is measured by bench/support.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drystone.answer.support import numbers, supports

SAME = [
    ("The fee is 1,250 euros.", "The fee is €1250."),
    ("The fee is 1.250,50 euros.", "The fee is 1250.50 euros."),
    ("It takes 5 %.", "It takes five percent."),
    ("Revenue was 1.2 million dollars.", "Revenue was $1,200,000."),
    ("It ends on 2024-03-05.", "It ends on 5 March 2024."),
    ("The limit is 30 days.", "There is a limit of thirty days."),
    ("The World Health Organization approved it.", "The WHO approved it."),
    ("São Paulo has an office.", "There is an office in Sao Paulo."),
    ("Refunds are not possible after 45 days.", "After 45 days refunds aren't possible."),
    ("The half-sisters met Mary-Ann Smith.", "The half sisters met MaryAnn Smith."),
    ("The pump's seal is replaced.", "The pump’s seal gets replaced."),
    ("返品は45日以内に可能です。", "返品は45日以内に可能です。"),
    ("सामान 45 दिनों में लौटाया जा सकता है।", "सामान 45 दिनों में लौटाया जा सकता है।"),
]
OTHER = [
    ("The fee is 1,250 euros.", "The fee is 1,260 euros.", "number"),
    ("The fee is 1,250 euros.", "The fee is 1,250 dollars.", "number"),
    ("The limit is 30 days.", "The limit is 30 hours.", "number"),
    ("It rose by 5 percent.", "It rose by 5 euros.", "number"),
    ("It ends on 2024-03-05.", "It ends on 5 April 2024.", "name"),
    ("It ends on 2024-03-05.", "It ends on 2024-03-06.", "number"),
    ("Priya Raman hands out laptops.", "Peter Raman hands out laptops.", "name"),
    ("The office is in Pune.", "The office is in Delhi.", "name"),
    ("Refunds are possible after 45 days.", "Refunds are not possible after 45 days.", "negation"),
    ("Refunds are not possible after 45 days.", "Refunds are possible after 45 days.", "negation"),
    ("Smoking is forbidden in the building.", "Smoking is permitted in the building.", "negation"),
    ("Revenue increased in the second quarter.", "Revenue decreased in the second quarter.", "negation"),
    ("Requests must come before the deadline.", "Requests must come after the deadline.", "negation"),
    ("You may work from another country of the European Union.", "You may work from any country.", "negation"),
    ("You may work from the European Union.", "You may work from all of Europe.", "name"),
    ("Receipts may be handed in late.", "Receipts must be handed in late.", "negation"),
    ("Vaccines are stored in the fridge.", "Employees have paid leave.", "meaning"),
    ("返品は45日以内に可能です。", "配送には18ユーロかかります。", "number"),
]


@pytest.mark.parametrize(("evidence", "sentence"), SAME)
def test_said_in_other_words_it_is_supported(evidence: str, sentence: str) -> None:
    assert supports([evidence], sentence).failed == ""


@pytest.mark.parametrize(("evidence", "sentence", "failed"), OTHER)
def test_something_else_is_not(evidence: str, sentence: str, failed: str) -> None:
    assert supports([evidence], sentence).failed == failed


def test_titles_lend_names_and_words_but_no_numbers() -> None:
    quote, title = "Its seal is replaced each year.", "Pump P-310 Rotterdam, 4000 hours"
    assert supports([quote], "The pump's seal is replaced each year in Rotterdam.", context=[title])
    assert supports([quote], "The seal is replaced each 4000 hours.", context=[title]).failed == "number"


def test_a_title_alone_bears_no_sentence() -> None:
    assert supports(["Ask two weeks before."], "Working elsewhere is possible.", context=["Working elsewhere"]).failed


def test_meaning_is_asked_only_where_the_words_leave_it_open() -> None:
    asked = []

    def close(a: str, b: str) -> float:
        asked.append((a, b))
        return 0.9

    quote = "Employees have 28 days of paid leave a year."
    assert supports([quote], "Employees have 28 days of paid leave a year.", similarity=close) and not asked
    halfway = "Staff have paid leave of 28 days annually."
    assert not supports([quote], halfway)
    assert supports([quote], halfway, similarity=close) and asked
    assert not supports([quote], "Staff members enjoy sunshine annually.", similarity=close), "words still count"


def test_two_numbers_in_each_others_place_are_noticed() -> None:
    quote = "The basic plan costs 5 euros and the large plan costs 7 euros."
    assert supports([quote], "The basic plan costs 7 euros and the large plan costs 5 euros.").failed == "number"
    assert supports([quote], "The large plan costs 7 euros and the basic plan costs 5 euros.")


@pytest.mark.parametrize(
    ("text", "values", "unit"),
    [
        ("1,000", {1000.0}, ""), ("1.000", {1.0, 1000.0}, ""), ("1.000,5 kg", {1000.5}, "kg"), ("3 bn", {3e9}, ""),
        ("$5", {5.0}, "$"), ("7-day", {7.0}, "day"), ("20 per cent", {20.0}, "%"), ("2nd", {2.0}, ""),
        ("12 kilograms", {12.0}, "kg"), ("half", {0.5}, ""), ("٤٥", {45.0}, ""),
    ],
)  # fmt: skip
def test_numbers_are_read(text: str, values: set[float], unit: str) -> None:
    (number,) = numbers(text)
    assert (set(number.values), number.unit) == (values, unit)


@given(st.text(max_size=300), st.text(max_size=300))
def test_it_never_fails_on_any_text(evidence: str, sentence: str) -> None:
    finding = supports([evidence], sentence)
    assert finding == supports([evidence], sentence)
    assert finding.failed in ("", "link", "number", "name", "negation", "meaning")


@given(st.integers(3, 10**9), st.integers(3, 10**9))
def test_a_number_that_is_not_there_never_passes(there: int, said: int) -> None:
    finding = supports([f"The limit of the account is {there} euros."], f"The limit of the account is {said:,} euros.")
    assert (finding.failed == "number") == (there != said)
