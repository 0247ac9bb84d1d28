"""The scorer by which parsers are chosen: what costs nothing, what costs, and that both sides are treated alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import scoring

TABLE = "| Name | Price |\n|---|---:|\n| Red **wine** | 3 \\| 4 |\n| | [7](http://a.example/b) |\n"


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        ("Bold and code", "**Bold** and `code`"),
        ("Name Price Red wine 3 4 7", TABLE),
        ("Home of it", "## [Home](/home_(page).html 'x') of it".replace("'", '"')),
        ("a b & c", "a_b &amp; c"),
        ("office ABC", "oﬃce ＡＢＣ"),
        ("one two", "one<br>two <!-- image: three -->"),
        ("日本 語", "日本語"),
    ],
)
def test_syntax_layout_and_case_cost_nothing(ours: str, expected: str) -> None:
    assert scoring.bag(ours, expected) == scoring.Score(1.0, 1.0, 1.0, 1.0)
    assert scoring.bag(expected, ours).f1 == 1.0


def test_a_repeated_word_is_one_too_many_and_a_lost_one_is_lost() -> None:
    found = scoring.bag("a b b c", "a b c d e")
    assert (found.precision, found.recall) == (3 / 4, 3 / 5)
    assert found.f1 == pytest.approx(2 / 3)
    assert found.distinct == pytest.approx(2 * 3 / 8)
    lost, extra = scoring.difference("a b b c", "a b c d e")
    assert (dict(lost), dict(extra)) == ({"d": 1, "e": 1}, {"b": 1})


def test_nothing_against_nothing_agrees_and_against_something_does_not() -> None:
    assert scoring.bag("", "<!-- image -->").f1 == 1.0
    assert scoring.bag("", "word").f1 == scoring.bag("word", "").f1 == 0.0


@given(st.text(max_size=60), st.text(max_size=60))
def test_f1_is_a_share_and_the_same_from_both_sides(a: str, b: str) -> None:
    there, back = scoring.bag(a, b), scoring.bag(b, a)
    assert 0.0 <= there.f1 <= 1.0
    assert there.f1 == pytest.approx(back.f1)
    assert there.recall == back.precision
    assert scoring.bag(a, a).f1 == 1.0


def test_tables_are_rows_under_a_rule() -> None:
    assert scoring.tables(TABLE) == [[["Name", "Price"], ["Red **wine**", "3 \\| 4"], ["", "[7](http://a.example/b)"]]]
    assert scoring.tables("| no rule |\n| here |\n") == []
    assert len(scoring.tables(f"{TABLE}\ntext\n\n{TABLE}")) == 2


@pytest.mark.parametrize(
    "ours",
    ["Name | Price\nName: Red wine | Price: 3 | 4\nPrice: 7", TABLE, "NAME\tPRICE\nred wine\t3 | 4\n\t7"],
)
def test_cells_and_rows_are_found_in_any_notation(ours: str) -> None:
    assert scoring.cell_recall(ours, TABLE) == 1.0
    assert scoring.row_recall(ours, TABLE) == 1.0


def test_a_cell_is_its_words_side_by_side_and_a_row_is_one_line() -> None:
    torn = "Name\nPrice\nwine 3 4 Red\n17"
    assert scoring.cell_recall(torn, TABLE) == 3 / 5  # neither "Red wine" nor "7"
    assert scoring.row_recall(torn, TABLE) == 0.0
    assert scoring.cell_recall("anything", "no table") is None
    assert scoring.row_recall("anything", "| one |\n|---|\n| cell |") is None


def test_the_mean_of_nothing_is_not_a_number() -> None:
    assert scoring.mean([]) is None
    assert scoring.mean([0.5, 1.0]) == 0.75
