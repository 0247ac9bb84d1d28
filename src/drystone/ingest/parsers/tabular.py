"""CSV and JSON as lines that can be cited: ``column: value | column: value`` a row, ``path: value`` a leaf.

Guarantees: every cell and every leaf is in the text, with what names it beside it.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any

from drystone.errors import ParseFailed
from drystone.ingest.parsers.build import TextBuilder, table
from drystone.ingest.parsers.text import decode
from drystone.records import Parsed

_NUMBER = re.compile(r"[-+]?[\d.,]+%?\Z")
_LONE = re.compile("[\ud800-\udfff]")


class CsvParser:
    """Comma, semicolon, tab or bar separated; the first row is the header unless it holds numbers."""

    name = "csv"
    version = "1"
    media_types = ("text/csv", "text/tab-separated-values")

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        text, notes = decode(data)
        csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
        first = text.lstrip("\n").partition("\n")[0]
        delimiter = "\t" if media_type == "text/tab-separated-values" else max(",;\t|", key=first.count)
        try:
            rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
        except csv.Error as error:
            raise ParseFailed(f"It is not CSV ({str(error)[:80]}).", kind="malformed") from None
        rows = [row for row in rows if any(cell.strip() for cell in row)]
        out = TextBuilder()
        if rows:
            headed = len(rows) > 1 and not any(_NUMBER.match(cell.strip()) for cell in rows[0])
            out.add("table", table(rows) if headed else table(rows, []))
            if not headed:
                notes = (*notes, "csv:no header")
        return out.parsed("", notes)


class JsonParser:
    """One JSON value, or one a line."""

    name = "json"
    version = "1"
    media_types = ("application/json", "application/x-ndjson")

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        text, notes = decode(data)
        try:
            if media_type == "application/x-ndjson":
                value: Any = [json.loads(line) for line in text.split("\n") if line.strip()]
            else:
                value = json.loads(text)
        except RecursionError:
            raise ParseFailed("It is nested too deeply.", kind="malformed") from None
        except ValueError:
            raise ParseFailed("It is not JSON.", kind="malformed") from None
        out = TextBuilder()
        named = value.get("title") if isinstance(value, dict) else None
        title = named if isinstance(named, str) else ""
        if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            for record in value:
                out.add("table", _LONE.sub("\ufffd", " | ".join(_leaves("", record))), near=True)
        else:
            out.add("table", _LONE.sub("\ufffd", "\n".join(_leaves("", value))))
        return out.parsed(_LONE.sub("\ufffd", title), notes)


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
