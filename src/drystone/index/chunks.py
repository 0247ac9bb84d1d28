"""From a parsed document to chunks, by its structure.

Guarantees: ``chunk.text == parsed.text[chunk.start:chunk.end]``; every character that is not white space is in a
chunk or is a heading in its chunks' ``heading``; no chunk crosses a heading, a page, a slide, a sheet or a mail's
part, none is longer than ``limit`` code points (and an overlap); each chunk's ``place`` names the rows of a table and
the seconds of a recording that it holds; linear time, and little memory beside the blocks of one section.

**Where it is cut is decided locally.** A text is first laid out in units: paragraphs, and the sentences, rows or
items of what is too long for one chunk. Each boundary between units has a strength that depends on nothing but
the words beside it. A boundary is a cut when the stretch around it, as far as the next stronger boundary on each
side, does not fit in one chunk. (These are the maximal subtrees of a treap that fit: Seidel and Aragon, "Randomized
Search Trees", 1996; as in content-defined chunking, but with sizes bounded.) So an edit changes the chunk it is in,
and no packing shifts behind it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple
from zlib import crc32

from drystone.index.sentences import sentences
from drystone.records import Block, Chunk, Parsed
from drystone.records.place import cells, corners, frame, parts, place

OVERLAP_CHARS = 300  # an overlap longer than this is left out
TINY = 120  # code points; a paragraph as short as this belongs to its neighbour
SHORT = 200  # code points; a passage below this is embedded under its nearest heading
WINDOW = 1 << 16  # units of a section that are looked at together
SLICE = 1 << 20  # code points of a long block that are looked at together
HEADER_CHARS = 200  # of a table's header row that is carried along

Strength = tuple[int, int, int]


class Unit(NamedTuple):
    """A stretch that is not cut. ``gap``: what lies before it: 0 a tiny neighbour, 1 its own block, 2 another block."""

    start: int
    end: int
    gap: int
    block: int


@dataclass(slots=True)
class _Section:
    """What lies under one heading and on one page, slide, sheet or part."""

    heading: tuple[str, ...]
    page: int | None
    frame: str
    blocks: list[Block]
    title: Block | None = None  # the heading itself, while nothing has been found under it


def chunks(parsed: Parsed, *, limit: int, overlap: int = 1) -> Iterator[Chunk]:
    """Chunks in order. ``limit``: code points of one; ``overlap``: sentences that a split passage repeats."""
    ordinal, lines = 0, _Rows(parsed.text)
    for section in _sections(parsed):
        starts = [block.start for block in section.blocks] if any(block.place for block in section.blocks) else None
        for start, end, heading in _cut(parsed.text, section, max(1, limit), overlap):
            where = "" if starts is None else _place(lines, section, starts, start, end)
            yield Chunk(ordinal, start, end, parsed.text[start:end], heading, section.page, where)
            ordinal += 1


def for_words(text: str, heading: Sequence[str], title: str) -> str:
    """What a passage's words are: its own under those of the title and all headings above it."""
    return "\n".join(dict.fromkeys(line for line in (title.strip(), *heading, text) if line))


def for_meaning(text: str, heading: Sequence[str], title: str) -> str:
    """What is embedded: the passage; a short one under its nearest heading, without which it says too little.

    Headings above longer passages make search by meaning worse (docs/decisions/0008).
    """
    nearest = heading[-1] if heading else title.strip()
    return f"{nearest}\n{text}" if nearest and len(text) < SHORT else text


# -- sections ----------------------------------------------------------------------------------------
def _sections(parsed: Parsed) -> Iterator[_Section]:
    text = parsed.text
    path: list[tuple[int, str]] = []
    section = _Section((), None, "", [])
    for block in _whole(text, parsed.blocks):
        around = frame(block.place)
        if block.kind == "heading":
            level = block.level or 1
            if section.blocks:
                yield section
            elif section.title and level <= path[-1][0]:  # a heading with nothing under it is its own passage
                yield _alone(section)
            while path and path[-1][0] >= level:
                path.pop()
            path.append((level, " ".join(text[block.start : block.end].split()).lstrip("# ")))
            section = _Section(tuple(name for _, name in path), block.page, around, [], block)
        elif section.blocks and (block.page, around) != (section.page, section.frame):
            yield section
            section = _Section(section.heading, block.page, around, [block])
        else:
            section.page, section.frame = block.page, around
            section.blocks.append(block)
    if section.blocks:
        yield section
    elif section.title:
        yield _alone(section)


def _alone(section: _Section) -> _Section:
    assert section.title is not None
    return _Section(section.heading[:-1], section.page, section.frame, [section.title])


class _Rows:
    """How many of a block's lines end before a character; what was counted is not counted again."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._start = self._at = self._count = 0

    def between(self, start: int, end: int) -> int:
        if start != self._start or end < self._at:
            self._start, self._at, self._count = start, start, 0
        self._count += self._text.count("\n", self._at, end)
        self._at = end
        return self._count


def _place(lines: _Rows, section: _Section, starts: Sequence[int], start: int, end: int) -> str:
    """The section's frame, and what of its one table and of its recording lies between ``start`` and ``end``."""
    rows: list[tuple[int, int, int, int]] = []
    tables: set[str] = set()
    times: list[float] = []
    for block in section.blocks[max(bisect_right(starts, start) - 1, 0) :]:
        if block.start >= end:
            break
        if not block.place or block.end <= start:
            continue
        said = parts(block.place)
        if "cells" in said:
            row, column, _, last_column = corners(said["cells"])
            first = row + lines.between(block.start, max(block.start, start))
            rows.append((first, column, row + lines.between(block.start, min(block.end, end)), last_column))
        if "table" in said or "cells" in said:
            tables.add(str(said.get("table", "")))
        times += [said[key] for key in ("start_s", "end_s") if key in said]
    named = parts(section.frame)
    if len(tables) == 1:
        named["table"] = next(iter(tables))
        if rows:
            low, high = zip(*((r[0], r[1]) for r in rows), strict=True), zip(*((r[2], r[3]) for r in rows), strict=True)
            named["cells"] = cells(*(min(each) for each in low), *(max(each) for each in high))
    if times:
        named["start_s"], named["end_s"] = min(times), max(times)
    return place(**named)


def _whole(text: str, blocks: Sequence[Block]) -> Iterator[Block]:
    """The blocks, and paragraphs for whatever lies between them."""
    at = 0
    for block in blocks:
        if block.start > at:
            yield from _paragraphs(text, at, block.start)
        start, end = _trim(text, max(block.start, at), min(block.end, len(text)))
        if start < end:
            yield Block(block.kind, start, end, block.level, block.page, block.place)
        at = max(at, block.end)
    yield from _paragraphs(text, at, len(text))


def _paragraphs(text: str, start: int, end: int) -> Iterator[Block]:
    while start < end:
        stop = text.find("\n\n", start, end)
        stop = end if stop < 0 else stop
        first, last = _trim(text, start, stop)
        if first < last:
            yield Block("paragraph", first, last)
        start = stop + 2


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


# -- cutting -----------------------------------------------------------------------------------------
def _cut(text: str, section: _Section, limit: int, overlap: int) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    for units, strength in _windows(text, _units(text, section.blocks, limit)):
        for first, last in _pieces(units, strength, limit):
            start, heading = units[first].start, section.heading
            if units[first].gap == 1:  # it begins inside a block
                block = section.blocks[units[first].block]
                if block.kind == "paragraph":
                    back = first
                    while back > 0 and first - back < overlap and units[back].gap == 1:
                        back -= 1
                    if start - units[back].start <= min(OVERLAP_CHARS, limit):
                        start = units[back].start
                elif block.kind == "table":
                    header = text[block.start : block.start + HEADER_CHARS].partition("\n")[0]
                    heading = (*heading, " ".join(header.split()))
            yield start, units[last].end, heading


def _units(text: str, blocks: Sequence[Block], limit: int) -> Iterator[Unit]:
    short = False
    for number, block in enumerate(blocks):
        now_short = block.end - block.start <= TINY
        gap = 0 if short or now_short else 2
        short = now_short
        if block.end - block.start <= limit:
            yield Unit(block.start, block.end, gap, number)
            continue
        for start, end in _inside(text, block, limit):
            yield Unit(start, end, gap, number)
            gap = 1


def _windows(text: str, units: Iterator[Unit]) -> Iterator[tuple[list[Unit], list[Strength]]]:
    """A bounded number of units at a time; where a section has more, its strongest boundaries are cuts."""
    window: list[Unit] = []
    while True:
        window += islice(units, WINDOW - len(window))
        strength = _strengths(text, window)
        if len(window) < WINDOW:
            yield window, strength
            return
        end = max(range(WINDOW // 2, WINDOW), key=strength.__getitem__)
        yield window[:end], strength[:end]
        window = window[end:]


def _inside(text: str, block: Block, limit: int) -> Iterator[tuple[int, int]]:
    """The sentences of a long paragraph, the lines of anything else; none longer than ``limit``."""
    at = block.start
    while at < block.end:
        stop = _near(text, at, min(at + SLICE, block.end), block.end)
        if block.kind == "paragraph":
            spans = [(at + a, at + b) for a, b in sentences(text[at:stop])]
        else:
            spans = list(_lines(text, at, stop))
        for start, end in spans:
            while end - start > limit:  # a line without an end: at white space, or anywhere
                middle = text.rfind(" ", start + limit // 2, start + limit)
                middle = start + limit if middle < 0 else middle
                yield _trim(text, start, middle)
                start, _ = _trim(text, middle, end)
            yield start, end
        at = stop


def _near(text: str, at: int, stop: int, end: int) -> int:
    """A line's end or white space shortly before ``stop``, so that a slice does not cut a word."""
    if stop >= end:
        return end
    for sign in ("\n", " "):
        found = text.rfind(sign, max(at + 1, stop - 20_000), stop)
        if found > 0:
            return found + 1
    return stop


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end:
        stop = text.find("\n", start, end)
        stop = end if stop < 0 else stop
        first, last = _trim(text, start, stop)
        if first < last:
            yield first, last
        start = stop + 1


def _pieces(units: Sequence[Unit], strength: Sequence[Strength], limit: int) -> Iterator[tuple[int, int]]:
    """First and last unit of each chunk. See the module's docstring."""
    if not units:
        return
    count = len(units)
    reach = [count - 1] * count  # last unit before the next stronger boundary to the right
    before = [0] * count  # first unit behind the next stronger boundary to the left
    stack: list[int] = []
    for i in range(1, count):  # boundary i lies before unit i
        while stack and strength[stack[-1]] < strength[i]:
            reach[stack.pop()] = i - 1
        before[i] = stack[-1] if stack else 0
        stack.append(i)
    first = 0
    for i in range(1, count):
        if units[reach[i]].end - units[before[i]].start > limit:
            yield first, i - 1
            first = i
    yield first, count - 1


def _strengths(text: str, units: Sequence[Unit]) -> list[Strength]:
    """Bond, a hash of the unit's first words, and among equals the ruler sequence, which halves a run evenly."""
    out: list[Strength] = []
    run = 0
    last: tuple[int, int] | None = None
    for unit in units:
        value = (unit.gap, crc32(text[unit.start : min(unit.start + 24, unit.end)].encode("utf-8", "replace")))
        run = run + 1 if value == last else 1
        last = value
        out.append((*value, run & -run))
    return out
