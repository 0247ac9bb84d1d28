"""Whatever a page is taken for, nothing on it is left out, and the same page is read alike."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from drystone.ingest.parsers.layout import Paragraph, Segment, Table, read

WORDS = st.sampled_from(
    ["alpha", "Beta,", "gamma.", "12", "(3.5)", "$", "2024", "•", "1.", "Name:", "اسم", "end-", "x"]
)
SEGMENTS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 30), st.lists(WORDS, min_size=1, max_size=9), st.sampled_from([8, 10, 10, 10, 18])),
    max_size=60,
)  # fmt: skip


def page(rows: list[tuple[int, int, list[str], int]]) -> list[Segment]:
    return [
        Segment(column * 90.0, line * 13.0, column * 90.0 + 0.5 * size * len(" ".join(words)), line * 13.0 + size,
                " ".join(words), float(size), size == 18, order)
        for order, (column, line, words, size) in enumerate(rows)
    ]  # fmt: skip


def letters(texts: list[str]) -> Counter[str]:
    return Counter("".join(texts).replace(" ", "").replace("-", ""))


@settings(max_examples=60, deadline=None)
@given(SEGMENTS)
def test_nothing_is_left_out(rows: list[tuple[int, int, list[str], int]]) -> None:
    told = [segment.text for segment in page(rows)]
    found: list[str] = []
    for piece in read(page(rows)):
        if isinstance(piece, Paragraph):
            found.append(piece.text)
            continue
        assert isinstance(piece, Table) and all(len(row) == len(piece.rows[0]) for row in piece.rows)
        found += [*piece.header, *(cell for row in piece.rows for cell in row)]
    assert not letters(told) - letters(found)
    assert list(map(repr, read(page(rows)))) == list(map(repr, read(page(rows))))


def test_a_page_of_thousands_of_scattered_words_takes_no_long_time() -> None:
    import time

    rows = [((n * 7919) % 97 / 10, (n * 104729) % 1500 / 3, ["word", "x"], 8 + n % 5) for n in range(8000)]
    start = time.monotonic()
    assert sum(1 for _ in read(page(rows)))  # type: ignore[arg-type]
    assert time.monotonic() - start < 20
