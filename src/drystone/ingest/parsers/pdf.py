"""PDF text by pages, with pdfium.

Guarantees: page numbers count from 1 as the file has them; lines of a paragraph are joined and words cut at a line's
end put together; encrypted files are ``encrypted``; pages without text are noted, a file without any is ``empty``.
"""

from __future__ import annotations

import re

from drystone.errors import ParseFailed
from drystone.ingest.parsers.build import TextBuilder
from drystone.records import Parsed

_LONE = re.compile("[\ud800-\udfff\x00-\x08\x0b\x0e-\x1f\ufffe\uffff]")
_LIST = re.compile(r"(?:[-*•‣▪–]|\d{1,3}[.)]|\(?[a-z]\))\s")
_MOST_PAGES = 20_000


class PdfParser:
    """Text as the file holds it; no recognition of images."""

    name = "pdf"
    version = "1"
    media_types = ("application/pdf",)

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        import pypdfium2 as pdfium

        try:
            document = pdfium.PdfDocument(data)
        except pdfium.PdfiumError as error:
            if "password" in str(error).lower() or "security" in str(error).lower():
                raise ParseFailed("It is encrypted with a password.", kind="encrypted") from None
            raise ParseFailed("It is damaged: no PDF can be made out.", kind="malformed") from None
        out, bare, broken = TextBuilder(), [], []
        pages = len(document)
        for number in range(1, min(pages, _MOST_PAGES) + 1):
            try:
                page = document[number - 1]
                text = page.get_textpage().get_text_range()
            except pdfium.PdfiumError:
                broken.append(number)
                continue
            text = _LONE.sub("", text.replace("\ufffe", "-"))
            if not text.strip():
                bare.append(number)
            for paragraph in _paragraphs(text):
                out.add("list" if _LIST.match(paragraph) else "paragraph", paragraph, page=number)
            page.close()
        notes = []
        if bare:
            notes.append(f"pages without text: {_some(bare)}")
        if broken:
            notes.append(f"pages that are damaged: {_some(broken)}")
        if pages > _MOST_PAGES:
            raise ParseFailed(f"It has {pages} pages; {_MOST_PAGES} are read at most.", kind="too_large")
        if pages == 0:
            raise ParseFailed("It has no pages.", kind="malformed")
        title = document.get_metadata_value("Title") if pages else ""
        document.close()
        return out.parsed(_LONE.sub("", title), notes)


def _paragraphs(text: str) -> list[str]:
    """Lines joined where one runs on into the next: pdfium gives lines, not paragraphs."""
    lines = [" ".join(line.split()) for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    widest = max(map(len, lines), default=0)
    out: list[str] = []
    before = ""  # the line before, empty if a paragraph ended there
    for line in lines:
        if not line:
            before = ""
            continue
        runs_on = bool(before) and not _LIST.match(line) and (
            before.endswith(("-", ",")) or len(before) >= 0.6 * widest and not (
                before.endswith((".", "!", "?", ":", "。")) and len(before) < 0.85 * widest)
        )  # fmt: skip
        if not runs_on:
            out.append(line)
        elif before.endswith("-") and len(before) > 1 and before[-2].isalpha() and line[0].islower():
            out[-1] = out[-1][:-1] + line
        else:
            out[-1] += " " + line
        before = line
    return out


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:10])) + (f" and {len(numbers) - 10} more" if len(numbers) > 10 else "")
