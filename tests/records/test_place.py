"""Places: what is written is read back, cells count as a spreadsheet does, a row of a table has its own cells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drystone.records.place import LONGEST, cells, corners, frame, narrowed, parts, place, spoken


@given(st.text(max_size=80), st.integers(1, 10**6), st.integers(1, 20_000), st.floats(0, 1e6))
def test_what_is_written_is_read_back(sheet: str, row: int, column: int, start: float) -> None:
    where = cells(row, column, row + 3, column + 1)
    text = place(sheet=sheet, cells=where, start_s=start)
    assert "\n" not in text and len(text) <= LONGEST or len(sheet) > 60
    found = parts(text)
    assert found.get("sheet", "") == " ".join(sheet.split()) and abs(found.get("start_s", 0) - start) <= 0.01
    assert corners(found["cells"]) == (row, column, row + 3, column + 1)
    assert parts(frame(text)).keys() <= {"sheet"}


def test_cells_count_as_a_spreadsheet_does() -> None:
    assert [cells(1, n, 1, n) for n in (1, 26, 27, 52, 53, 702, 703)] == [
        "A1",
        "Z1",
        "AA1",
        "AZ1",
        "BA1",
        "ZZ1",
        "AAA1",
    ]
    assert corners("B2") == (2, 2, 2, 2) and corners("B2:D9") == (2, 2, 9, 4)
    for wrong in ("", "2B", "b2", "B", "B2:"):
        with pytest.raises(ValueError):
            corners(wrong) if wrong != "B2:" else corners("B2:C")


def test_only_known_keys_and_what_is_no_place_is_none() -> None:
    with pytest.raises(KeyError):
        place(colour="red")
    assert place(slide=None, sheet="") == "" and parts("") == {} and parts("slide=x&sheet=A") == {"sheet": "A"}


def test_a_row_has_its_own_cells_and_a_mixed_passage_keeps_all() -> None:
    passage = "Item: tea | Price: 3\nItem: pot | Price: 30\nItem: mat | Price: 9"
    at = passage.index("Item: pot")
    assert narrowed("sheet=Prices&cells=A2:B4", passage, at, at + 5) == "sheet=Prices&cells=A3:B3"
    assert narrowed("sheet=Prices&cells=A2:B4", passage, at, len(passage)) == "sheet=Prices&cells=A3:B4"
    assert narrowed("sheet=Prices&cells=A2:B9", passage, at, at + 5) == "sheet=Prices&cells=A2:B9"
    assert narrowed("slide=3", passage, at, at + 5) == "slide=3"


@pytest.mark.parametrize(
    ("quote", "expected"),
    [
        ("Denmark: 12 | 190", "slide=2&table=1&cells=A3:B3"),
        ("Austria: 9 | 140\nDenmark: 12 | 190", "slide=2&table=1&cells=A2:B3"),
        ("From March on.", "slide=2"),
        ("Notes: say it twice.", "slide=2"),
        ("12 | 190\n\nNotes", "slide=2&table=1&cells=A3:B3"),
    ],
)
def test_words_beside_a_table_have_no_cells_and_a_row_among_them_has_its_own(quote: str, expected: str) -> None:
    passage = "From March on.\n\nMeal | Hotel\nAustria: 9 | 140\nDenmark: 12 | 190\n\nNotes: say it twice."
    first = passage.index(quote)
    assert narrowed("slide=2&table=1&cells=A1:B3", passage, first, first + len(quote)) == expected


def test_a_title_above_a_sheets_table_is_its_first_row() -> None:
    passage = "Budget in euros\n\nTeam | Sum\nTeam: A | Sum: 1\nTeam: B | Sum: 2"
    first = passage.index("Team: B")
    assert narrowed("sheet=S&cells=A1:B4", passage, first, len(passage)) == "sheet=S&cells=A4:B4"


@pytest.mark.parametrize(
    ("where", "passage"),
    [
        ("sheet=S&cells=A1:B6", "Budget\n\nTeam: A | Sum: 1\n\nTeam: B | Sum: 2"),  # empty rows between
        ("sheet=S&cells=A1:E6", "a | b\nc | d\n\ne | f\ng | h\n\ni | j\nTeam: B | l"),  # two side by side, and a gap
        ("table=1&cells=A1:A2", "Team\nTeam: B\n\nNotes"),  # nothing shows which lines are rows
    ],
)
def test_where_it_is_not_sure_which_lines_are_rows_the_place_stays_wide(where: str, passage: str) -> None:
    first = passage.index("Team: B")
    assert narrowed(where, passage, first, first + 5) == where


def test_places_are_spoken() -> None:
    assert spoken(3, "") == "page 3" and spoken(None, "") == ""
    assert spoken(None, "sheet=Prices %26 more&cells=A2:D9") == "sheet Prices & more, A2:D9"
    assert spoken(None, "slide=4&table=1&cells=A1") == "slide 4, table 1, A1"
    assert spoken(None, "start_s=12.5&end_s=3719") == "0:12 to 1:01:59"
