"""Chunks know their place: rows of a table, the one sheet or slide, seconds of a recording."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from drystone.index.chunks import chunks
from drystone.ingest.parsers.build import TextBuilder
from drystone.records import Chunk, Parsed
from drystone.records.place import corners, parts, place


def cut(parsed: Parsed, limit: int = 200) -> list[Chunk]:
    return list(chunks(parsed, limit=limit))


def test_a_chunk_of_a_table_names_the_rows_it_holds() -> None:
    out = TextBuilder()
    rows = [["Item", "Price"], *([f"thing {n}", str(n)] for n in range(2, 60)), [], ["after the gap", "61"]]
    out.table(rows, sheet="Prices", first_row=1, first_column=2)
    found = cut(out.parsed())
    assert len(found) > 5 and found[0].place == f"sheet=Prices&cells=B1:C{1 + found[0].text.count(chr(10))}"
    for chunk in found:
        top, left, bottom, right = corners(parts(chunk.place)["cells"])
        assert (left, right) == (2, 3)
        lines = chunk.text.split("\n")
        numbers = [int(line.rpartition("Price: ")[2]) for line in lines if "Price: " in line]
        assert numbers[0] in (top, top + 1) and numbers[-1] == bottom, "the price says the row it stands in"


def test_no_chunk_crosses_a_sheet_a_slide_or_a_part() -> None:
    out = TextBuilder()
    for n in range(1, 5):
        out.add("paragraph", f"Short {n}.", place=place(slide=n))
        out.add("paragraph", f"More {n}.", place=place(slide=n))
    assert [(c.place, c.text.count("Short")) for c in cut(out.parsed(), 900)] == [
        (f"slide={n}", 1) for n in range(1, 5)
    ]


def test_a_recording_spans_its_segments_and_two_tables_are_none() -> None:
    out = TextBuilder()
    for n in range(4):
        out.add("paragraph", f"Sentence {n} was said.", place=place(start_s=n * 2.5, end_s=n * 2.5 + 2))
    (chunk,) = cut(out.parsed(), 900)
    assert parts(chunk.place) == {"start_s": 0.0, "end_s": 9.5}
    out = TextBuilder()
    out.table([["A"], ["1"]])
    out.table([["B"], ["2"]])
    assert [c.place for c in cut(out.parsed(), 900)] == [""] and out.parsed().blocks[1].place == "table=2&cells=A1:A2"


@settings(max_examples=60)
@given(st.lists(st.lists(st.text("ab |\n", max_size=6), max_size=4), max_size=40), st.integers(20, 300))
def test_any_table_keeps_one_line_a_row(rows: list[list[str]], limit: int) -> None:
    out = TextBuilder()
    out.table(rows)
    parsed = out.parsed()
    for block in parsed.blocks:
        top, _, bottom, _ = corners(parts(block.place)["cells"])
        assert parsed.text[block.start : block.end].count("\n") == bottom - top
        assert bottom <= len(rows)
    assert all(c.place for c in cut(parsed, limit))
