"""Jupyter notebooks: what was written, the code, and what it printed.

Guarantees: Markdown cells are read as Markdown, code cells are code, outputs that are text follow their cell; tables
that were printed as HTML keep their cells. Pictures and other outputs are counted in a note.
"""

from __future__ import annotations

import json
import re
from typing import Any

from drystone.errors import ParseFailed
from drystone.ingest.parsers import html, markdown
from drystone.ingest.parsers.build import TextBuilder
from drystone.ingest.parsers.text import decode
from drystone.records import Parsed

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LONGEST = 20_000  # characters of one printed output


class NotebookParser:
    """Jupyter notebooks, formats 3 and 4."""

    name = "notebook"
    version = "1"
    media_types = ("application/x-ipynb+json",)

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        text, said = decode(data)
        notes = [*said]
        try:
            book = json.loads(text)
            cells = book.get("cells")
            if cells is None:
                cells = [cell for sheet in book.get("worksheets", []) for cell in sheet.get("cells", [])]
            out = TextBuilder()
            shown = sum(_cell(cell, out, notes) for cell in cells)
        except (ValueError, AttributeError, TypeError, RecursionError):
            raise ParseFailed("It is no notebook.", kind="malformed") from None
        if shown:
            notes.append(f"outputs that are no text left out: {shown}")
        title = book.get("metadata", {}).get("title") if isinstance(book.get("metadata"), dict) else ""
        return out.parsed(title if isinstance(title, str) else "", notes)


def _cell(cell: dict[str, Any], out: TextBuilder, notes: list[str]) -> int:
    """How many outputs are no text."""
    kind, source = cell.get("cell_type"), _joined(cell.get("source", cell.get("input", "")))
    if kind == "markdown":
        markdown.fill(out, source)
    elif kind == "heading":
        out.add("heading", source, level=int(cell.get("level", 1)))
    elif kind == "code":
        out.add("code", source)
    else:
        out.add("paragraph", source)
    left = 0
    for output in cell.get("outputs") or []:
        data = output.get("data", output)
        page, plain = _joined(data.get("text/html", "")), _joined(output.get("text", data.get("text/plain", "")))
        if output.get("output_type") in ("error", "pyerr"):
            plain = f"{output.get('ename', '')}: {output.get('evalue', '')}"
        plain = _COLOUR.sub("", plain)
        if "<table" in page:
            html.fill(out, page)
        elif plain.strip() and not re.fullmatch(r"<[^<>\n]+>", plain.strip()):
            if len(plain) > _LONGEST:
                plain = plain[:_LONGEST]
                notes.append("an output is cut after 20000 characters")
            out.add("code", plain)
        else:
            left += 1
    return left


def _joined(value: Any) -> str:
    text = "".join(str(line) for line in value) if isinstance(value, list) else str(value)
    return text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode()
