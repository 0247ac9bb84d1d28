"""Presentations: slide after slide, each passage with its slide's number.

Guarantees: slides in the order in which they are shown; a slide's title is its heading, the rest follows from top to
bottom and left to right, groups together; lists, tables with merged cells filled, the numbers that charts keep,
SmartArt, speaker notes and comments. Hidden slides are read, and noted. Left out, with a note: pictures, embedded
objects, macros. An embedded package is a part. Nothing is fetched; no walk recurses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from drystone.errors import ParseFailed
from drystone.ingest.media import PPTX
from drystone.ingest.parsers.build import TextBuilder, unread
from drystone.ingest.parsers.ooxml import A, Package, R, Relation, described, graphic, lay, package, paragraphs
from drystone.records import Parsed, Part, Reading
from drystone.records.place import place

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_SHAPES = {_P + n for n in ("sp", "graphicFrame", "pic", "grpSp", "cxnSp", "contentPart")} | {_MC + "AlternateContent"}
_LITTLE = {"sldNum", "dt", "ftr", "hdr"}  # placeholders that every slide repeats
_FAR = 1 << 40


class PptxParser:
    """Office Open XML presentations, shows, templates and those with macros."""

    name = "pptx"
    version = "1"
    media_types = (PPTX,)

    def parse(self, data: bytes, *, name: str, media_type: str, reading: Reading = Reading()) -> Parsed:
        with package(data) as packed:
            main = packed.main("ppt", "ppt/presentation.xml")
            root = packed.tree(main)
            if root is None:
                raise ParseFailed("It is no presentation: the main part is missing.", kind="malformed")
            return _Deck(packed, TextBuilder(reading.text)).read(root, packed.relations(main))


class _Deck:
    def __init__(self, packed: Package, out: TextBuilder) -> None:
        self._packed, self._out = packed, out
        self._left = Counter[str]()
        self._layouts: dict[str, dict[str, tuple[int, int]]] = {}
        self._authors: dict[str, str] = {}
        self._parts: list[Part] = []

    def read(self, root: Element, related: dict[str, Relation]) -> Parsed:
        hidden = 0
        for relation in related.values():
            authors = self._packed.tree(relation.target) if relation.kind in ("commentAuthors", "authors") else None
            for node in () if authors is None else authors.iter():
                self._authors[node.get("id") or ""] = " ".join((node.get("name") or "").split())
        for number, node in enumerate(root.iter(_P + "sldId"), 1):
            target = related.get(node.get(R + "id") or "", Relation("", "", False)).target
            slide = self._packed.tree(target)
            if slide is None:
                self._left["missing slides"] += 1
                continue
            hidden += slide.get("show") in ("0", "false")
            self._slide(slide, number, self._packed.relations(target))
        if self._packed.names("ppt/vbaproject"):
            self._left["macros"] = 0
        notes = [f"hidden slides: {hidden} read too"] if hidden else []
        notes += unread(self._left)
        return self._out.parsed(self._packed.title(), notes, self._parts)

    def _slide(self, slide: Element, number: int, related: dict[str, Relation]) -> None:
        tree = slide.find(f"{_P}cSld/{_P}spTree")
        where = place(slide=number)
        shapes = list(self._ordered(tree, self._inherited(related))) if tree is not None else []
        title = next((s for s in shapes if _role(s)[0] in ("title", "ctrTitle")), None)
        if title is not None:
            said = " ".join(" ".join(text for _, text in paragraphs(title)).split())
            self._out.add("heading", said, level=1, place=where)
        for shape in shapes:
            if shape is not title and _role(shape)[0] not in _LITTLE:
                self._shape(shape, number, related)
        for relation in related.values():
            if relation.external:
                continue
            if relation.kind == "notesSlide":
                self._notes(self._packed.tree(relation.target), where)
            elif relation.kind == "comments":
                self._comments(self._packed.tree(relation.target), where)
            elif relation.kind == "oleObject":
                self._left["embedded files"] += 1
        self._parts += self._packed.embedded(related.values())

    def _ordered(self, tree: Element, inherited: dict[str, tuple[int, int]]) -> Iterator[Element]:
        """Shapes from top to bottom, then left to right; what a group holds stays together."""
        stack: list[Element] = [tree]
        while stack:
            node = stack.pop()
            if node is not tree and node.tag not in (_P + "grpSp", _MC + "AlternateContent", _MC + "Choice"):
                yield node
                continue
            if node.tag == _MC + "AlternateContent":
                choice = node.find(_MC + "Choice")
                inside = list(choice if choice is not None else node.find(_MC + "Fallback") or ())
            else:
                inside = list(node)
            inside = [child for child in inside if child.tag in _SHAPES]
            stack.extend(reversed(sorted(inside, key=lambda s: _corner(s, inherited))))

    def _inherited(self, related: dict[str, Relation]) -> dict[str, tuple[int, int]]:
        """Where the slide's layout, and above it the master, put placeholders: by index and by role."""
        target = next((r.target for r in related.values() if r.kind == "slideLayout" and not r.external), "")
        if target not in self._layouts:
            found: dict[str, tuple[int, int]] = {}
            above = self._packed.relations(target)
            master = next((r.target for r in above.values() if r.kind == "slideMaster" and not r.external), "")
            for root in (self._packed.tree(master), self._packed.tree(target)):
                for shape in () if root is None else root.iter(_P + "sp"):
                    role, index = _role(shape)
                    corner = _own_corner(shape)
                    if corner is not None:
                        found[f"role {role}"] = corner
                        if index and root is not None and root.tag.endswith("sldLayout"):
                            found[f"index {index}"] = corner
            self._layouts[target] = found
        return self._layouts[target]

    def _shape(self, shape: Element, number: int, related: dict[str, Relation]) -> None:
        where = place(slide=number)
        about = next((n for n in shape.iter() if n.tag == _P + "cNvPr"), None)
        table = next(shape.iter(A + "tbl"), None)
        if table is not None:
            lay(self._out, _rows(table), slide=number)
        elif shape.tag == _P + "graphicFrame":
            if not graphic(self._packed, shape, related, self._out, slide=number) and about is not None:
                self._out.add("paragraph", described(about.get("descr")), place=where)
        elif shape.tag == _P + "pic":
            self._left["pictures"] += 1
            if about is not None:
                self._out.add("paragraph", described(about.get("descr")), place=where)
        else:
            body = shape.find(_P + "txBody")
            if body is not None:
                self._body(body, where, _role(shape)[0])

    def _body(self, body: Element, where: str, role: str) -> None:
        listed, counts = False, dict[int, int]()
        bulleted = role in ("body", "obj")  # whose layout gives bullets that the slide need not repeat
        several = sum(1 for _, text in paragraphs(body) if text) > 1
        for paragraph, text in paragraphs(body):
            if not text:
                continue
            about = paragraph.find(A + "pPr")
            level = int(about.get("lvl") or 0) if about is not None else 0
            numbered = None if about is None else about.find(A + "buAutoNum")
            bullet = about is not None and (
                about.find(A + "buChar") is not None or about.find(A + "buBlip") is not None
            )
            plain = about is not None and about.find(A + "buNone") is not None
            if numbered is not None:
                counts = {at: n for at, n in counts.items() if at <= level}
                start = int(numbered.get("startAt") or 1)
                counts[level] = counts.get(level, start - 1) + 1
                self._out.add("list", f"{counts[level]}. {text}", near=listed, place=where)
            elif bullet or (bulleted and several and not plain):
                self._out.add("list", f"- {text}", near=listed, place=where)
            else:
                self._out.add("paragraph", text, place=where)
                listed = False
                continue
            listed = True

    def _notes(self, root: Element | None, where: str) -> None:
        for shape in () if root is None else root.iter(_P + "sp"):
            if _role(shape)[0] not in ("body", ""):
                continue
            said = "\n".join(text for _, text in paragraphs(shape) if text)
            if said:
                self._out.add("paragraph", f"Notes: {said}", place=where)

    def _comments(self, root: Element | None, where: str) -> None:
        """Of both kinds: a text of its own, or paragraphs with the answers inside."""
        author = ""
        for node in () if root is None else root.iter():
            author = self._authors.get(node.get("authorId") or "", author)
            if node.tag == _P + "text":
                said = node.text or ""
            elif node.tag.endswith("}txBody"):
                said = "\n".join(text for _, text in paragraphs(node) if text)
            else:
                continue
            if said.strip():
                self._out.add("paragraph", f"Comment{f' by {author}' if author else ''}: {said}", place=where)


def _role(shape: Element) -> tuple[str, str]:
    """What a placeholder is for, and its index; a shape that is none has neither."""
    node = next(shape.iter(_P + "ph"), None) if shape.tag != _P + "grpSp" else None
    return ("", "") if node is None else (node.get("type") or "obj", node.get("idx") or "")


def _own_corner(shape: Element) -> tuple[int, int] | None:
    for properties in ("spPr", "grpSpPr"):
        offset = shape.find(f"{_P}{properties}/{A}xfrm/{A}off")
        if offset is not None:
            return int(offset.get("y") or 0), int(offset.get("x") or 0)
    offset = shape.find(f"{_P}xfrm/{A}off")
    return None if offset is None else (int(offset.get("y") or 0), int(offset.get("x") or 0))


def _corner(shape: Element, inherited: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """Top and left, tops taken roughly, so that what stands in a line is read along it."""
    if shape.tag == _MC + "AlternateContent":
        shape = next((n for n in shape.iter() if n.tag in _SHAPES and n is not shape), shape)
    role, index = _role(shape)
    found = _own_corner(shape) or inherited.get(f"index {index}") or inherited.get(f"role {role}") or (_FAR, 0)
    return found[0] // 200_000, found[1]


def _rows(table: Element) -> list[list[str]]:
    """A table's rows, merged cells filled."""
    rows: list[list[str]] = []
    for row in table.findall(A + "tr"):
        cells: list[str] = []
        for cell in row.findall(A + "tc"):
            if cell.get("hMerge") in ("1", "true") and cells:
                cells.append(cells[-1])
            elif cell.get("vMerge") in ("1", "true") and rows and len(cells) < len(rows[-1]):
                cells.append(rows[-1][len(cells)])
            else:
                cells.append(" ".join(text for _, text in paragraphs(cell) if text))
        rows.append(cells)
    return rows
