"""Word documents, read from their XML.

Guarantees: headings with their level (by style, in any language, or outline level), paragraphs, list items, tables,
footnotes at the end; deleted text of tracked changes is left out. What would unfold beyond the limits is refused as
``expansion`` before it is unfolded; document type declarations (entities) are refused; nothing is fetched.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from drystone.errors import ParseFailed
from drystone.ingest.parsers.build import TextBuilder, table
from drystone.records import Parsed

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MOST_BYTES = 256 << 20  # of one part, unfolded
MOST_RATIO = 200  # unfolded to packed, for parts over a megabyte
MOST_PARTS = 10_000
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_STRICT = b"http://purl.oclc.org/ooxml/wordprocessingml/main"
_SKIP = {_W + "del", _W + "moveFrom", _W + "instrText", _W + "pPr", _W + "rPr", _W + "sectPr"}
_CHOICE = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"


class DocxParser:
    """Office Open XML text documents."""

    name = "docx"
    version = "1"
    media_types = ("application/vnd.openxmlformats-officedocument.wordprocessingml.document",)

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as packed:
                if len(packed.infolist()) > MOST_PARTS:
                    raise ParseFailed("It has more parts than a document has.", kind="expansion")
                body = _part(packed, "word/document.xml")
                if body is None:
                    raise ParseFailed("It is no Word document: the main part is missing.", kind="malformed")
                levels = _levels(_part(packed, "word/styles.xml"))
                notes = _part(packed, "word/footnotes.xml")
                core = _part(packed, "docProps/core.xml")
        except RuntimeError:  # zipfile: a password is needed
            raise ParseFailed("It is encrypted.", kind="encrypted") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ElementTree.ParseError, ValueError):
            raise ParseFailed("It is damaged: the package cannot be unpacked.", kind="malformed") from None
        out = TextBuilder()
        root = body.find(_W + "body")
        _blocks(root if root is not None else body, levels, out)
        if notes is not None:
            for note in notes.iter(_W + "footnote"):
                out.add("paragraph", " ".join(_text(p) for p in note.iter(_W + "p")))
        title = core.findtext("{http://purl.org/dc/elements/1.1/}title") if core is not None else ""
        return out.parsed(title or "")


def _part(packed: zipfile.ZipFile, name: str) -> Element | None:
    """One part as a tree, or ``None``. Its size is bounded by what is unpacked, not by what the package says."""
    try:
        info = packed.getinfo(name)
    except KeyError:
        return None
    if info.file_size > MOST_BYTES or (info.file_size > 1 << 20 and info.file_size > MOST_RATIO * info.compress_size):
        raise ParseFailed("A part unfolds to more than is allowed.", kind="expansion")
    with packed.open(info) as file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise ParseFailed("A part unfolds to more than is allowed.", kind="expansion")
    if b"<!DOCTYPE" in raw or b"<!ENTITY" in raw or "<!DOCTYPE".encode("utf-16-le") in raw:
        raise ParseFailed("A part declares a document type, which no Word document does.", kind="malformed")
    return ElementTree.fromstring(raw.replace(_STRICT, _W[1:-1].encode()))


def _levels(styles: Element | None) -> dict[str, int]:
    """Style id to heading level; styles that are based on a heading are one too."""
    if styles is None:
        return {f"Heading{n}": n for n in range(1, 10)} | {"Title": 1}
    found: dict[str, int] = {}
    based: dict[str, str] = {}
    for style in styles.iter(_W + "style"):
        identity = style.get(_W + "styleId") or ""
        name = (_value(style, "name") or "").lower()
        outline = style.find(f"{_W}pPr/{_W}outlineLvl")
        if name.startswith("heading ") and name[8:].isdigit():
            found[identity] = int(name[8:])
        elif name == "title":
            found[identity] = 1
        elif outline is not None and (outline.get(_W + "val") or "9") < "9":
            found[identity] = int(outline.get(_W + "val") or "0") + 1
        based[identity] = _value(style, "basedOn") or ""
    for identity in based:
        at, steps = identity, 0
        while at and at not in found and steps < 20:
            at, steps = based.get(at, ""), steps + 1
        if at in found:
            found.setdefault(identity, found[at])
    return found


def _value(node: Element, name: str) -> str | None:
    child = node.find(_W + name)
    return None if child is None else child.get(_W + "val")


def _blocks(root: Element, levels: dict[str, int], out: TextBuilder) -> None:
    listed = False
    for node in _top(root):
        if node.tag == _W + "tbl":
            out.add("table", table(_rows(node)))
            listed = False
            continue
        properties = node.find(_W + "pPr")
        style = _value(properties, "pStyle") if properties is not None else None
        outline = _value(properties, "outlineLvl") if properties is not None else None
        level = levels.get(style or "", 0)
        if not level and outline and outline.isdigit() and outline < "9":
            level = int(outline) + 1
        text = _text(node)
        item = properties is not None and properties.find(_W + "numPr") is not None or "list" in (style or "").lower()
        if level:
            out.add("heading", " ".join(text.split()), level=level)
        elif item and text.strip():
            out.add("list", "- " + text.strip(), near=listed)
        else:
            out.add("paragraph", text)
        listed = bool(item and not level and text.strip()) or (listed and not text.strip())


def _top(root: Element) -> Iterator[Element]:
    """Paragraphs and tables in order, also those in content controls."""
    stack = [root]
    while stack:
        node = stack.pop()
        if node.tag in (_W + "p", _W + "tbl"):
            yield node
        elif node.tag not in _SKIP:
            stack.extend(reversed(node))


def _rows(node: Element) -> Iterator[list[str]]:
    for row in node.iter(_W + "tr"):
        yield [" ".join(_text(p) for p in cell.iter(_W + "p")) for cell in row.iter(_W + "tc")]


def _text(paragraph: Element) -> str:
    parts: list[str] = []
    stack = [paragraph]
    while stack:
        node = stack.pop()
        if node.tag in _SKIP or node.tag == _CHOICE:
            continue
        if node.tag == _W + "t":
            parts.append(node.text or "")
        elif node.tag in (_W + "tab", _W + "ptab"):
            parts.append(" ")
        elif node.tag in (_W + "br", _W + "cr"):
            parts.append("\n")
        elif node.tag == _W + "noBreakHyphen":
            parts.append("-")
        stack.extend(reversed(node))
    return "".join(parts)
