"""From pieces of text with their places on a page to paragraphs and tables in reading order.

Guarantees: nothing that is given is left out, whatever it is taken for: a character of every segment is in the result.
Columns of prose are read one after the other; rows of a table keep their cells. What is uncertain stays a line.
Places are in any unit, x to the right and y down, as the text is read: the caller turns rotated text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

_BULLETS = "-*•‣▪●○◦■□–➢✓\uf0b7\uf0a7\uf0d8\uf076"  # the last ones are those of symbol fonts
LIST = re.compile(rf"(?:[{_BULLETS}]|\(?\d{{1,3}}[.)]|\(?[a-z]\))\s")
_MARK = re.compile(rf"[{_BULLETS}]|\(?\d{{1,3}}[.)]|\(?[a-zA-Z]\)|(?:\d{{1,3}}\.)+\d{{0,3}}|§+")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufefc]")
_LONE_BEFORE, _LONE_AFTER = re.compile(r"[$€£¥(]+|US\$"), re.compile(r"[)%]+")
_NUMERIC = re.compile(r"[-–—+(]*[$€£¥]?\s?[-–(]?[\d.,]+\s?[)%]*|[-–—]+|\$?\s?[—–-]")
_MONTH = re.compile(r"\w+\.? \d\d?,$")  # a date goes on below
_YEAR = re.compile(r"(?:19|20)\d\d")
_MOST_COLUMNS = 40
_LONGEST_NAME = 120  # of a column: each row repeats it


@dataclass(slots=True, eq=False)
class Segment:
    """Text on one line without a wide gap in it. ``size``: height of its letters; ``order``: as the file has it."""

    left: float
    top: float
    right: float
    bottom: float
    text: str
    size: float
    bold: bool = False
    order: int = 0


@dataclass(slots=True)
class Paragraph:
    text: str
    size: float
    bold: bool
    lines: int = 1


@dataclass(slots=True)
class Table:
    """``header``: the columns' names, none if there is no row of them; ``skipped``: how many rows these were."""

    rows: list[list[str]]
    header: list[str] = field(default_factory=list)
    skipped: int = 0


Row = list[Segment]


def read(segments: Sequence[Segment]) -> Iterator[Paragraph | Table]:
    """Everything on a page, in the order in which a person would read it."""
    for region in _regions(list(segments), 0):
        yield from _region(region)


def _regions(segments: list[Segment], depth: int) -> list[list[Segment]]:
    """Parts of a page of one column each. Wide lines part the bands in which columns are looked for."""
    if len(segments) < 6 or depth > 6:
        return [segments]
    left, right = min(s.left for s in segments), max(s.right for s in segments)
    segments.sort(key=lambda s: (s.top, s.left))
    out: list[list[Segment]] = []
    joined = False  # the last region goes on
    for band, wide in _bands(segments, 0.6 * (right - left)):
        split = None if wide else _columns(band, depth)
        if split is not None:
            out += [region for region in split if region]
            joined = False
        elif joined:
            out[-1] += band
        else:
            out.append(band)
            joined = True
    return out


def _bands(segments: Sequence[Segment], widest: float) -> Iterator[tuple[list[Segment], bool]]:
    band: list[Segment] = []
    was = False
    for segment in segments:
        wide = segment.right - segment.left >= widest
        if band and wide != was:
            yield band, was
            band = []
        band.append(segment)
        was = wide
    if band:
        yield band, was


def _columns(band: list[Segment], depth: int) -> list[list[Segment]] | None:
    """The band's columns one after the other, or None if it has none that are prose."""
    if len(band) < 6 or depth > 6:
        return None
    gap = _gutter(band)
    if gap is None:
        return None
    middle = (gap[0] + gap[1]) / 2
    crossing = next((s for s in band if s.left < gap[0] and s.right > gap[1]), None)
    if crossing is not None:  # a short line in the middle parts the band in two
        at = band.index(crossing)
        above, below = _columns(band[:at], depth + 1), _columns(band[at + 1 :], depth + 1)
        if above is None and below is None:
            return None
        return [*(above or [band[:at]]), [crossing], *(below or [band[at + 1 :]])]
    first = [s for s in band if s.right <= middle]
    second = [s for s in band if s.left >= middle]
    if len(first) + len(second) != len(band) or not _prose(first, second, band):
        return None
    return _regions(first, depth + 1) + _regions(second, depth + 1)


def _gutter(band: Sequence[Segment]) -> tuple[float, float] | None:
    """The widest strip from top to bottom that nothing, or next to nothing, crosses."""
    left, right = min(s.left for s in band), max(s.right for s in band)
    size = median(s.size for s in band) or 1.0
    step = max(size / 4, (right - left) / 400) or 1.0
    count = int((right - left) / step) + 2
    edges = [0] * (count + 1)
    for s in band:
        edges[int((s.left - left) / step)] += 1
        edges[min(count, int((s.right - left) / step) + 1)] -= 1
    most = len(band) // 12
    best: tuple[int, int, int] | None = None
    covered = begun = 0
    low, high = int(0.12 * count), int(0.88 * count)
    for number in range(count + 1):
        covered += edges[number]
        if covered > most or number == count:
            if begun < number and begun <= high and number >= low and (best is None or number - begun > best[0]):
                best = (number - begun, begun, number)
            begun = number + 1
    if best is None or best[0] * step < 0.7 * size:
        return None
    return left + best[1] * step, left + best[2] * step


def _prose(first: list[Segment], second: list[Segment], band: Sequence[Segment]) -> bool:
    """Whether both sides are running text rather than cells of one table."""
    if min(len(first), len(second)) < 3:
        return False
    fills, letters, widths = [], [], []
    for side in (first, second):
        width = max(s.right for s in side) - min(s.left for s in side)
        widths.append(width)
        fills.append(median(s.right - s.left for s in side) / (width or 1.0))
        letters.append(sum(len(s.text) for s in side) / len(side))
    ordered = sorted(band, key=lambda s: s.order)
    sides = set(map(id, first))
    turns = sum((id(a) in sides) != (id(b) in sides) for a, b in zip(ordered, ordered[1:], strict=False))
    runs_on = min(_runs_on(first), _runs_on(second))
    if min(widths) < 0.25 * max(widths) or min(letters) < 12:
        return False
    if turns <= max(2, len(band) // 12):  # written column by column
        return min(fills) > 0.5 or runs_on >= 0.3
    return min(fills) > 0.6 and min(letters) >= 18 and min(widths) > 0.5 * max(widths) and runs_on >= 0.3


def _runs_on(side: Sequence[Segment]) -> float:
    """Share of the lines that do not end a sentence and go on in the next."""
    pairs = list(zip(side, side[1:], strict=False))
    on = sum(
        not a.text.endswith((".", ":", ";")) and not b.text[:1].isupper() and b.text[:1].isalpha() for a, b in pairs
    )
    return on / max(1, len(pairs))


def _rows(segments: list[Segment]) -> list[Row]:
    """Segments that stand on one line, from left to right."""
    rows: list[Row] = []
    top = bottom = 0.0
    for segment in sorted(segments, key=lambda s: (s.top + s.bottom, s.left)):
        middle = (segment.top + segment.bottom) / 2
        low = min(bottom - top, segment.bottom - segment.top) / 2
        if rows and min(bottom, segment.bottom) - max(top, segment.top) >= low and top <= middle <= bottom:
            rows[-1].append(segment)
            continue
        rows.append([segment])
        top, bottom = segment.top, segment.bottom
    for row in rows:
        if len(row) > 1:
            backwards = sum(bool(_RIGHT_TO_LEFT.search(s.text)) for s in row) * 2 > len(row)
            row.sort(key=lambda s: s.left, reverse=backwards)
    return [_lone(row) if len(row) > 1 else row for row in rows]


def _lone(row: Row) -> Row:
    """A list's mark, a currency or a bracket belongs to what stands beside it."""
    out: Row = [row[0]]
    for segment in row[1:]:
        before = out[-1]
        first = len(out) == 1 and _MARK.fullmatch(before.text)
        if first or _LONE_BEFORE.fullmatch(before.text) or _LONE_AFTER.fullmatch(segment.text):
            out[-1] = _joined(before, segment, " " if first else "")
        else:
            out.append(segment)
    return out


def _joined(first: Segment, second: Segment, gap: str) -> Segment:
    return Segment(
        first.left, min(first.top, second.top), max(first.right, second.right), max(first.bottom, second.bottom),
        first.text + gap + second.text, max(first.size, second.size), first.bold and second.bold, first.order,
    )  # fmt: skip


def _region(segments: list[Segment]) -> Iterator[Paragraph | Table]:
    rows = _rows(segments)
    told = at = tries = 0  # rows before ``told`` are given out
    while at < len(rows):
        end = _run(rows, at) if len(rows[at]) > 1 else at
        first = _above(rows, told, at)
        made = _table(rows[first:end]) if end > at else None
        if made is None:
            tries = tries + 1 if end > at else 0
            at, tries = (at + 1, tries) if tries < 4 else (end, 0)  # a stray row may stand before a table
            continue
        yield from _paragraphs(rows[told:first])
        yield made
        told = at = end
        tries = 0
    yield from _paragraphs(rows[told:])


def _above(rows: Sequence[Row], told: int, at: int) -> int:
    """The first of the lines that stand above a table's columns, and not above its first one."""
    first = at
    while first > told and len(rows[first - 1]) == 1 and len(rows[at]) > 1:
        cell, below = rows[first - 1][0], rows[first]
        if cell.left <= rows[at][0].right or below[0].top - cell.bottom > cell.size or cell.right > rows[at][-1].right:
            break
        first -= 1
    return first


def _run(rows: Sequence[Row], at: int) -> int:
    """Where the rows that may be one table end: those with several cells, and single cells between or close below."""
    end = at + 1
    single = 0
    edge = min(s.right for s in rows[at])
    for number in range(at + 1, len(rows)):
        row, before = rows[number], rows[number - 1]
        gap = min(s.top for s in row) - max(s.bottom for s in before)
        if gap > 3.5 * max(s.size for s in row):
            break
        if len(row) > 1:
            single = 0
            end = number + 1
            continue
        single += 1
        cell = row[0]
        wrapped = cell.left > edge and gap < 0.6 * cell.size
        if wrapped and single < 12 and end == number and _within(cell, before):
            end = number + 1
        elif single > 2 or cell.right - cell.left > 0.7 * _width(rows[at:end]):
            break
    return end


def _within(cell: Segment, row: Row) -> bool:
    """Whether a lone cell stands below one of the row's, and not across several."""
    return sum(s.left < cell.right and s.right > cell.left for s in row) == 1


def _width(rows: Sequence[Row]) -> float:
    return max(s.right for row in rows for s in row) - min(s.left for row in rows for s in row)


def _table(rows: Sequence[Row]) -> Table | None:
    many = [row for row in rows if len(row) > 1]
    if len(many) < 2:
        return None
    columns: list[list[float]] = []
    for segment in sorted((s for row in many for s in row), key=lambda s: s.right - s.left):
        met = [c for c in columns if c[0] < segment.right and c[1] > segment.left]
        if not met:
            columns.append([segment.left, segment.right])
        elif len(met) == 1:
            met[0][0], met[0][1] = min(met[0][0], segment.left), max(met[0][1], segment.right)
    columns.sort(reverse=rows[0][0].left > rows[0][-1].left)
    cells_a_row = sum(map(len, many)) / len(many)
    if not 2 <= len(columns) <= _MOST_COLUMNS or cells_a_row < 0.4 * len(columns):
        return None
    grid = [_cells(row, columns) for row in rows]
    if len(many) < 3 and not any(map(_figures, grid)):
        return None  # two lines with gaps that happen to meet
    names, skipped = _header(rows, grid, columns)
    body = _unwrapped(rows[skipped:], grid[skipped:])
    return Table(body, names, skipped) if body else None


def _unwrapped(rows: Sequence[Row], grid: Sequence[list[str]]) -> list[list[str]]:
    """Rows whose cells go on in the next line put together; where that is uncertain, lines stay rows."""
    gaps = [0.0] + [
        (min(s.top for s in row) - min(s.top for s in before)) / max(s.size for s in row)
        for before, row in zip(rows, rows[1:], strict=False)
    ]
    tightest = min(gaps[1:], default=0.0) or 1.0
    loose = max(gaps) > 1.35 * tightest  # lines of a cell stand closer than rows
    out: list[list[str]] = []
    down = False  # the last row is the begin of the next one's first cell
    for gap, values in zip(gaps, grid, strict=True):
        close = not loose or gap <= 1.15 * tightest
        alone = bool(values[0]) and not any(values[1:])
        if alone:
            wraps = values[0][:1].islower()
        else:
            wraps = not _numbers(values) and (not values[0] or loose) or down and values[0][:1].islower()
        if out and close and wraps:
            out[-1] = [" ".join(filter(None, pair)) for pair in zip(out[-1], values, strict=True)]
        else:
            out.append(values)
        down = alone
    return out


def _numbers(values: Sequence[str]) -> bool:
    return any(_NUMERIC.fullmatch(v) for v in values if v)


def _cells(row: Row, columns: Sequence[Sequence[float]]) -> list[str]:
    values = [""] * len(columns)
    for segment in row:
        overlaps = [min(c[1], segment.right) - max(c[0], segment.left) for c in columns]
        best = max(overlaps)
        met = [n for n, o in enumerate(overlaps) if o > 0]
        at = met[0] if met else overlaps.index(best)
        values[at] = f"{values[at]} {segment.text}" if values[at] else segment.text
    return values


def _header(
    rows: Sequence[Row], grid: Sequence[list[str]], columns: Sequence[Sequence[float]]
) -> tuple[list[str], int]:
    """Names of the columns, and how many rows hold them; none unless it looks like it."""
    count = 0
    for values in grid[:6]:
        if _figures(values[1:]):
            break
        full = count > 0 and all(grid[count - 1][1:])
        if full and not (not values[0] and all(_YEAR.fullmatch(v) for v in values[1:])):
            break  # years may stand below the months
        count += 1
    while count and not any(grid[count - 1][1:]):
        count -= 1  # the title of the first rows
    first = grid[0]
    if not count or count >= len(grid) or any(n.endswith((":", ",", ";")) and values is first for values in grid[:1]
                                              for n in values if not _MONTH.match(n)):  # fmt: skip
        return [], 0
    if count == 1 and not all(first[1:]) or count > 1 and 2 * sum(map(_figures, grid[count:])) < len(grid) - count:
        return [], 0
    names = [""] * len(columns)
    for row in rows[:count]:
        beside = [s for s in row if s.left >= columns[0][1] or s.right <= columns[0][0]]
        many, left_over = divmod(len(columns) - 1, len(beside) or 1)
        for segment in row:
            if segment in beside and many > 1 and not left_over:  # each stands above as many columns
                begin = 1 + beside.index(segment) * many
                above = list(range(begin, begin + many))
            else:
                gaps = [max(left - segment.right, segment.left - right) for left, right in columns]
                above = [n for n, gap in enumerate(gaps) if gap < 0] or [gaps.index(min(gaps))]
            for number in above:
                names[number] = f"{names[number]} {segment.text}".strip()
    return (names, count) if max(map(len, names)) <= _LONGEST_NAME else ([], 0)


def _figures(values: Sequence[str]) -> bool:
    """Whether a row holds numbers that are no years."""
    return any(_NUMERIC.fullmatch(v) and not _YEAR.fullmatch(v) for v in values if v)


def _paragraphs(rows: Sequence[Row]) -> Iterator[Paragraph]:
    """Lines joined where one runs on into the next."""
    if not rows:
        return
    right = max(s.right for row in rows for s in row)
    left = min(s.left for row in rows for s in row)
    pitches = [row[0].top - before[0].top for before, row in zip(rows, rows[1:], strict=False)]
    usual = median(pitches) if len(pitches) > 2 else 0.0  # a text may be set with double space
    made: Paragraph | None = None
    before: Row = []
    for row in rows:
        text = " ".join(s.text for s in row)
        if made is not None and _continues(before, row, made, text, (left, right, usual)):
            made.text = _glued(made.text, text)
            made.lines += 1
            made.bold = made.bold and row[0].bold
        else:
            if made is not None:
                yield made
            made = Paragraph(text, max(s.size for s in row), all(s.bold for s in row))
        before = row
    if made is not None:
        yield made


def _continues(before: Row, row: Row, made: Paragraph, text: str, frame: tuple[float, float, float]) -> bool:
    left, right, usual = frame
    size, last = max(s.size for s in row), max(s.size for s in before)
    pitch = min(s.top for s in row) - min(s.top for s in before)
    most = min(1.3 * usual, 3.5 * size) if usual else 1.9 * max(size, last)
    if LIST.match(text) or pitch > most or abs(size - last) > 0.12 * max(size, last):
        return False
    if made.bold != all(s.bold for s in row) and made.lines == 1 and (made.bold or row[0].bold):
        return False  # a heading in bold above its text
    ends = before[-1].right
    if made.text.endswith(("-", ",", "\ufffe")):
        return True
    room = right - ends
    if room > 0.4 * (right - left):
        return False
    return not (made.text.endswith((".", "!", "?", ":", "。")) and room > 0.15 * (right - left))


def _glued(text: str, more: str) -> str:
    """Two lines of a paragraph; a word cut at a line's end is put together."""
    if text.endswith("-") and len(text) > 1 and text[-2].isalpha() and more[:1].islower():
        return text[:-1] + more
    return f"{text} {more}"
