"""CSV and JSON as lines that can be cited: ``column: value | column: value`` a row, ``path: value`` a leaf.

Guarantees: every cell and every leaf is in the text, with what names it beside it; rows stream, so that beside the
bytes and the text only a few thousand of them are held. Where naming every cell would make more text than is allowed,
the header is written once, and a note says so. Lines of an NDJSON file that are no JSON stay as they are, counted in
a note; if most are none, it is refused as ``malformed``.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

from drystone.errors import ParseFailed
from drystone.ingest.parsers.build import TextBuilder
from drystone.ingest.parsers.clock import later
from drystone.ingest.parsers.text import decode, sound
from drystone.records import Parsed, Reading

_NUMBER = re.compile(
    r"[-+]?[$€£¥]?\s?\d[\d.,  ']*\s?[%$€£¥]?|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?|true|false", re.I
)
_SAMPLE = 200  # rows by which delimiter and header are found
_LINES = 4096  # of JSON, a block
LARGE = 32 << 20  # bytes that take longer than a document may, but where there is more time


class CsvParser:
    """Comma, semicolon, tab or bar separated, with a header or without."""

    name = "csv"
    version = "2"
    media_types = ("text/csv", "text/tab-separated-values")
    slow = "drystone.ingest.parsers.tabular:LargeCsvParser"

    def parse(self, data: bytes, *, name: str, media_type: str, reading: Reading = Reading()) -> Parsed:
        later(self.slow, len(data), LARGE)
        text, said = decode(data)
        notes = [*said]
        csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
        delimiter = _delimiter(text, media_type)
        out = TextBuilder(reading.text)
        try:
            rows = csv.reader(_lines(text), delimiter=delimiter)
            sample = list(islice(rows, _SAMPLE))
            header = headed([row for row in sample if any(map(str.strip, row))])
            if not header:
                notes.append("csv: no header")
            widths = Counter(len(row) for row in sample if row)
            if len(widths) > 1:
                notes.append("csv: rows of different lengths")
            once = header and _named(text, sample) > reading.text
            if once:
                notes.append("csv: header written once, as the text would be too long")
            out.table(chain(sample, rows), header=None if header and not once else [])
        except csv.Error as error:
            raise ParseFailed(f"It is not CSV ({str(error)[:80]}).", kind="malformed") from None
        return out.parsed("", notes)


def _lines(text: str) -> Iterator[str]:
    """As ``io.StringIO`` gives them, without a copy of the whole in four bytes a character."""
    at = 0
    while at < len(text):
        end = text.find("\n", at) + 1 or len(text)
        yield text[at:end]
        at = end


def _named(text: str, sample: Sequence[Sequence[str]]) -> float:
    """About how long the text becomes when every cell is named."""
    plain = sum(len(cell) + 1 for row in sample for cell in row) or 1
    names = sum(len(cell) + 4 for cell in sample[0])
    return len(text) * (1 + names * len(sample) / plain)


def _delimiter(text: str, media_type: str) -> str:
    """What parts most of the first rows into the same number of cells, more than one; a tab where the type says so."""
    sample = text[: 1 << 16]
    if len(sample) < len(text):
        sample = sample[: sample.rfind("\n") + 1] or sample
    best, most = "\t" if media_type == "text/tab-separated-values" else ",", 0.0
    for delimiter in (best, *(d for d in ",;\t|" if d != best)):
        try:
            widths = Counter(
                len(row) for row in islice(csv.reader(_lines(sample), delimiter=delimiter), _SAMPLE) if row
            )
        except csv.Error:
            continue
        if not widths:
            continue
        width, count = max(widths.items(), key=lambda pair: (pair[1], pair[0]))
        agreed = count / widths.total() * min(width - 1, 4) + (width > 1)
        if agreed > most:
            best, most = delimiter, agreed
    return best


def headed(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns: it is unlike what stands below it, or at least no data itself."""
    if len(rows) < 2:
        return False
    first, rest = [cell.strip() for cell in rows[0]], rows[1:_SAMPLE]
    if not any(first):
        return False
    votes = 0
    for column, name in enumerate(first):
        below = [cell for row in rest if column < len(row) and (cell := row[column].strip())]
        if not below:
            continue
        numbers = sum(_NUMBER.fullmatch(cell) is not None for cell in below) * 2 > len(below)
        if _NUMBER.fullmatch(name):
            votes += -2 if numbers else 1
        elif name in below:
            votes -= 1
        elif numbers:
            votes += 2
    filled = [cell for cell in first if cell]
    return votes > 0 or votes == 0 and len(set(filled)) == len(filled) and all(len(cell) <= 120 for cell in filled)


class LargeCsvParser(CsvParser):
    """The same, where there is time."""

    slow = ""


class JsonParser:
    """One JSON value, or one a line."""

    name = "json"
    version = "2"
    media_types = ("application/json", "application/x-ndjson")
    slow = "drystone.ingest.parsers.tabular:LargeJsonParser"

    def parse(self, data: bytes, *, name: str, media_type: str, reading: Reading = Reading()) -> Parsed:
        later(self.slow, len(data), LARGE)
        text, said = decode(data)
        notes = [*said]
        out = TextBuilder(reading.text)
        if media_type == "application/x-ndjson":
            return _by_line(text, notes, out)
        try:
            value = json.loads(text)
        except RecursionError:
            raise ParseFailed("It is nested too deeply.", kind="malformed") from None
        except ValueError:
            if "\n" in text.strip() and text.lstrip()[:1] == "{":
                try:
                    return _by_line(text, [*notes, "json: one value a line"], out)
                except ParseFailed:
                    pass  # then it is neither, as the next line says
            raise ParseFailed("It is not JSON.", kind="malformed") from None
        named = value.get("title") if isinstance(value, dict) else None
        if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            _add(out, (" | ".join(_leaves("", record)) for record in value))
        else:
            _add(out, _leaves("", value))
        return out.parsed(sound(named) if isinstance(named, str) else "", notes)


class LargeJsonParser(JsonParser):
    """The same, where there is time."""

    slow = ""


def _by_line(text: str, notes: list[str], out: TextBuilder) -> Parsed:
    wrong = right = 0

    def lines() -> Iterator[str]:
        nonlocal wrong, right
        for line in _lines(text):
            if not line.strip():
                continue
            try:
                yield " | ".join(_leaves("", json.loads(line)))
                right += 1
            except (ValueError, RecursionError):
                wrong += 1
                yield line.strip()

    _add(out, lines())
    if wrong >= max(right, 1):
        raise ParseFailed("Most of its lines are not JSON.", kind="malformed")
    if wrong:
        notes.append(f"lines that are not JSON: {wrong}")
    return out.parsed("", notes)


def _add(out: TextBuilder, lines: Iterator[str]) -> None:
    near = False
    while some := [sound(line) for line in islice(lines, _LINES)]:
        out.add("table", "\n".join(filter(None, some)), near=near)
        near = True


def _leaves(path: str, value: Any) -> Iterator[str]:
    """Depth first without recursion."""
    stack = [(path, value)]
    while stack:
        at, found = stack.pop()
        if isinstance(found, dict):
            stack.extend((f"{at}.{key}" if at else str(key), v) for key, v in reversed(found.items()))
        elif isinstance(found, list):
            if all(not isinstance(v, (dict, list)) for v in found):
                if found:
                    yield _leaf(at, ", ".join(_plain(v) for v in found))
            else:
                stack.extend((f"{at}[{n}]", v) for n, v in reversed(list(enumerate(found, 1))))
        elif found is not None and found != "":
            yield _leaf(at, _plain(found))


def _leaf(path: str, value: str) -> str:
    return f"{path}: {value}" if path else value


def _plain(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else json.dumps(value)
