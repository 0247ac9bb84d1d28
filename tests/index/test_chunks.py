"""Chunks: spans hold, nothing is lost, headings and pages are not crossed, an edit stays where it is."""

from __future__ import annotations

import random
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drystone.index import chunks as chunking
from drystone.index.chunks import OVERLAP_CHARS, chunks, for_meaning, for_words
from drystone.records import Block, Parsed

TEXT = "refund returns Delivery stove 45 days. within café नमस्ते 退货 a e.g. No! U.S. I"
WORDS = st.sampled_from(TEXT.split())
PARAGRAPH = st.lists(WORDS, min_size=1, max_size=60).map(" ".join)
PIECES = st.lists(
    st.tuples(st.sampled_from(["heading", "paragraph", "list", "table", "code", "gap"]), PARAGRAPH, st.integers(1, 4)),
    max_size=25,
)


def parsed(pieces: list[tuple[str, str, int]]) -> Parsed:
    text, blocks = "", []
    for number, (kind, words, level) in enumerate(pieces):
        if kind in ("list", "table", "code"):
            words = words.replace(" ", "\n")
        if kind != "gap":  # what no block covers is text all the same
            blocks.append(Block(kind, len(text), len(text) + len(words), level, 1 + number // 9))  # type: ignore[arg-type]
        text += words + "\n\n"
    return Parsed(text, tuple(blocks))


@given(PIECES, st.integers(1, 400), st.integers(0, 2))
@settings(max_examples=150, deadline=None)
def test_laws(pieces: list[tuple[str, str, int]], limit: int, overlap: int) -> None:
    document = parsed(pieces)
    found = list(chunks(document, limit=limit, overlap=overlap))
    covered = [False] * len(document.text)
    pages = {i: b.page for b in document.blocks for i in range(b.start, b.end)}
    for number, chunk in enumerate(found):
        assert chunk.ordinal == number
        assert chunk.text == document.text[chunk.start : chunk.end] and chunk.text.strip() == chunk.text != ""
        assert len(chunk.text) <= limit + min(OVERLAP_CHARS, limit) + 1
        assert len({pages.get(i) for i in range(chunk.start, chunk.end) if not document.text[i].isspace()}) == 1
        for i in range(chunk.start, chunk.end):
            covered[i] = True
    headings = {name for chunk in found for name in chunk.heading}
    for block in document.blocks:
        if block.kind == "heading":
            name = " ".join(document.text[block.start : block.end].split())
            alone = any(c.start >= block.start and c.end <= block.end for c in found)
            assert name in headings or alone
            covered[block.start : block.end] = [True] * (block.end - block.start)
            assert alone or not any(c.start < block.end and c.end > block.start for c in found)
    assert not any(not c and not document.text[i].isspace() for i, c in enumerate(covered))


def prose(rng: random.Random, sentences: int) -> str:
    made = (" ".join(rng.choice(VOCABULARY) for _ in range(12)).capitalize() + "." for _ in range(sentences))
    return " ".join(made)


VOCABULARY = ["".join(random.Random(n).choices("abcdefghijklmnop", k=2 + n % 8)) for n in range(5000)]


def embedded(document: Parsed) -> set[str]:
    return {c.text for c in chunks(document, limit=900)}


def test_an_edit_changes_the_chunk_it_is_in_and_no_other() -> None:
    rng = random.Random(4)
    more = 0
    for _ in range(100):
        paragraphs = [prose(rng, rng.randint(1, 8)) for _ in range(rng.randint(5, 50))]
        before = embedded(Parsed("\n\n".join(paragraphs), ()))
        place = rng.randrange(len(paragraphs))
        words = paragraphs[place].split()
        words[rng.randrange(6, len(words))] = "somethingelse"
        edited = paragraphs[:place] + [" ".join(words)] + paragraphs[place + 1 :]
        fresh = embedded(Parsed("\n\n".join(edited), ())) - before
        assert 1 <= len(fresh) <= 2  # two: the chunk grew over the limit and was cut
        more += len(fresh) - 1
    assert more <= 3


def test_an_insertion_and_a_removal_stay_local() -> None:
    rng = random.Random(5)
    for _ in range(100):
        paragraphs = [prose(rng, rng.randint(1, 8)) for _ in range(30)]
        before = embedded(Parsed("\n\n".join(paragraphs), ()))
        place = rng.randrange(1, 29)
        longer = paragraphs[:place] + [prose(rng, 3)] + paragraphs[place:]
        shorter = paragraphs[:place] + paragraphs[place + 1 :]
        assert len(embedded(Parsed("\n\n".join(longer), ())) - before) <= 4
        assert len(embedded(Parsed("\n\n".join(shorter), ())) - before) <= 4


def test_the_same_text_gives_the_same_chunks_wherever_it_stands() -> None:
    rng = random.Random(6)
    part = "\n\n".join(prose(rng, 4) for _ in range(20))
    heading = Block("heading", 0, 5, 1)

    def under(before: str) -> set[str]:
        text = f"Title{before}\n\nPart\n\n{part}"
        at = text.index("Part")
        return {c.text for c in chunks(Parsed(text, (heading, Block("heading", at, at + 4, 1))), limit=900)}

    assert under("") <= under("\n\n" + prose(rng, 30)) | {"Title"}


def test_headings_are_carried_along_and_not_quoted() -> None:
    text = "Returns\n\nShoes\n\nWithin 45 days.\n\nCoats\n\nNever.\n\nShipping"
    blocks = [
        Block("heading", text.index(name), text.index(name) + len(name), level)
        for name, level in (("Returns", 1), ("Shoes", 2), ("Coats", 2), ("Shipping", 1))
    ]
    found = [(c.heading, c.text) for c in chunks(Parsed(text, tuple(blocks)), limit=900)]
    assert found == [
        (("Returns", "Shoes"), "Within 45 days."),
        (("Returns", "Coats"), "Never."),
        ((), "Shipping"),
    ]
    assert for_words("Never.", ("Returns", "Coats"), "Returns") == "Returns\nCoats\nNever."
    assert for_meaning("Never.", ("Returns", "Coats"), "Returns") == "Coats\nNever."
    assert for_meaning("Never.", (), "Returns") == "Returns\nNever."
    assert for_meaning("Never. " * 40, ("Returns", "Coats"), "") == "Never. " * 40


def test_a_long_table_keeps_rows_whole_and_names_its_columns() -> None:
    rows = [f"{n}, item number {n}, {n * 3} EUR" for n in range(200)]
    text = "id, name, price\n" + "\n".join(rows)
    found = list(chunks(Parsed(text, (Block("table", 0, len(text)),)), limit=500))
    assert len(found) > 5
    assert [row for c in found for row in c.text.split("\n")] == text.split("\n")
    assert found[0].heading == () and all(c.heading == ("id, name, price",) for c in found[1:])


def test_a_split_passage_repeats_one_sentence() -> None:
    text = prose(random.Random(7), 60)
    found = list(chunks(Parsed(text, (Block("paragraph", 0, len(text)),)), limit=500))
    pairs = list(zip(found, found[1:], strict=False))
    assert all(b.start < a.end for a, b in pairs)
    assert all(a.text.endswith(text[b.start : a.end]) and text[b.start : a.end].endswith(".") for a, b in pairs)


LARGE = (
    ("same line\n" * 150_000, "table"),
    ("x" * 2_000_000, "paragraph"),
    ("A sentence. " * 100_000, "paragraph"),
    ("A paragraph.\n\n" * 80_000, ""),
    ("Contents" + "." * 300_000 + "3", "paragraph"),
    ("Ende" + "?!…" * 100_000 + "x", "paragraph"),
    ("はい" + "。" * 300_000 + "」と", "paragraph"),
)


@pytest.mark.parametrize(
    ("text", "kind"), LARGE, ids=["lines", "no space", "sentences", "paragraphs", "dots", "marks", "cjk"]
)
def test_large_texts_take_linear_time(text: str, kind: str) -> None:
    document = Parsed(text, (Block(kind, 0, len(text)),) if kind else ())  # type: ignore[arg-type]
    started = time.process_time()
    count = sum(1 for _ in chunks(document, limit=900))
    assert len(text) / 1300 <= count and time.process_time() - started < 10


def test_memory_does_not_grow_with_a_section(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "WINDOW", 2048)
    monkeypatch.setattr(chunking, "SLICE", 1 << 13)

    def peak(lines: int) -> int:
        document = Parsed("a line\n" * lines, (Block("table", 0, 7 * lines),))
        tracemalloc.start()
        try:
            assert sum(1 for _ in chunks(document, limit=900)) > lines / 300
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(32_000) < 1.5 * peak(16_000)
