"""Electronic books: the chapters in the order in which they are read.

Guarantees: every document of the spine, read as a web page is; headings, lists and tables as there. A book under
digital rights management is ``encrypted``. Left out, with a note: pictures without a description, chapters that are
missing. Nothing outside the package is fetched.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote

from drystone.errors import ParseFailed
from drystone.ingest.media import EPUB
from drystone.ingest.parsers.build import TextBuilder
from drystone.ingest.parsers.html import render
from drystone.ingest.parsers.ooxml import Package, package, tree
from drystone.ingest.parsers.text import decode
from drystone.records import Parsed, Reading
from drystone.records.place import parts, place

_OPF = "{http://www.idpf.org/2007/opf}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_FONTS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")  # scrambled fonts are no protection
_DOCTYPE = re.compile(rb"<!DOCTYPE[^\[>]*>")  # without declarations of its own it says nothing that we need
_CLOSED = re.compile(
    r"<(?!(?:area|base|br|col|embed|hr|img|input|link|meta|source|track|wbr)\b)([a-zA-Z][\w:-]*)(\s[^<>]*)?/>"
)


class EpubParser:
    """EPUB 2 and 3."""

    name = "epub"
    version = "1"
    media_types = (EPUB,)

    def parse(self, data: bytes, *, name: str, media_type: str, reading: Reading = Reading()) -> Parsed:
        with package(data) as packed:
            return _book(packed, TextBuilder(reading.text))


def _book(packed: Package, out: TextBuilder) -> Parsed:
    container = packed.tree("META-INF/container.xml")
    rootfile = (
        next((n for n in container.iter() if n.tag.endswith("}rootfile")), None) if container is not None else None
    )
    at = rootfile.get("full-path") or "" if rootfile is not None else ""
    raw = packed.raw(at)
    if raw is None:
        raise ParseFailed("It is no electronic book: the package document is missing.", kind="malformed")
    book = tree(_DOCTYPE.sub(b"", raw, count=1))
    folder = posixpath.dirname(at)
    files = {
        n.get("id") or "": posixpath.normpath(posixpath.join(folder, unquote(n.get("href") or "")))
        for n in book.iter(_OPF + "item")
    }
    locked = _locked(packed)
    missing = 0
    tables = 0
    for item in book.iter(_OPF + "itemref"):
        name = files.get(item.get("idref") or "", "")
        if name in locked:
            raise ParseFailed("It is protected by digital rights management.", kind="encrypted")
        chapter = packed.raw(name)
        if chapter is None:
            missing += 1
            continue
        text, _ = decode(chapter)
        parsed = render(_CLOSED.sub(r"<\1\2></\1>", text))
        most, end = tables, 0
        for block in parsed.blocks:
            where = parts(block.place)
            if "table" in where:
                where["table"] += tables
                most = max(most, where["table"])
            near = parsed.text[end : block.start].count("\n") == 1
            out.add(
                block.kind, parsed.text[block.start : block.end], level=block.level, near=near, place=place(**where)
            )
            end = block.end
        tables = most
    title = next((n.text or "" for n in book.iter(_DC + "title") if n.text), "")
    return out.parsed(title, [f"missing chapters: {missing} not read"] if missing else [])


def _locked(packed: Package) -> set[str]:
    """The files whose content is encrypted."""
    if "META-INF/encryption.xml" not in packed:
        return set()
    root = packed.tree("META-INF/encryption.xml")
    found: set[str] = set()
    for node in () if root is None else root.iter():
        if not node.tag.endswith("}EncryptedData"):
            continue
        method = next((n.get("Algorithm") or "" for n in node.iter() if n.tag.endswith("}EncryptionMethod")), "")
        if method not in _FONTS:
            found |= {unquote(n.get("URI") or "") for n in node.iter() if n.tag.endswith("}CipherReference")}
    return found
