"""A row of a table as a document: its text by the media type that the source names.

Guarantees: what no UTF-8 can hold is replaced; the row's title stands before one that the text names.
"""

from __future__ import annotations

import json

from drystone.errors import ParseFailed
from drystone.ingest.parsers.html import render as render_html
from drystone.ingest.parsers.markdown import render as render_markdown
from drystone.ingest.parsers.text import sound
from drystone.records import Parsed


class RowParser:
    """A row of a ``rows`` source: JSON with ``title``, ``text`` and the media type of the text."""

    name = "row"
    version = "1"
    media_types = ("application/vnd.drystone.row+json",)

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        try:
            row = json.loads(data)
            text, title, kind = row["text"], row["title"], row["type"]
            if not (isinstance(text, str) and isinstance(title, str)):
                raise ValueError("no text")
        except (ValueError, KeyError, TypeError, RecursionError):  # nobody but our own source writes rows
            raise ParseFailed("It is no row of a table.", kind="malformed") from None
        text = sound(text).replace("\r\n", "\n").replace("\r", "\n")
        if kind == "text/markdown":
            parsed = render_markdown(text)
        elif kind == "text/html":
            parsed = render_html(text)
        else:
            parsed = Parsed(text, ())
        return Parsed(parsed.text, parsed.blocks, sound(title) or parsed.title, parsed.notes)
