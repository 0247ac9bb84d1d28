"""Word documents, read from their XML.

Guarantees: headings with their level (by style, in any language, or outline level) and their number, paragraphs, list
items with the mark that people see, tables with every merged cell filled, text boxes, formulas (as LaTeX), notes,
comments, and what pages repeat at their head and foot, once, at the end. Left out, each with a note: what tracked
changes deleted, hidden text, pictures, embedded objects, macros. An embedded package is a part. Tables inside cells
are written into their cell; a table of one cell is no table. Nothing is fetched; no walk recurses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from drystone.errors import ParseFailed
from drystone.ingest.media import DOCX
from drystone.ingest.parsers.build import TextBuilder, unread
from drystone.ingest.parsers.ooxml import Package, R, Relation, described, graphic, lay, package
from drystone.records import Parsed, Reading
from drystone.records.place import place

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_WP = "{http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_DELETED = {W + "del", W + "moveFrom"}
_SKIP = {
    W + n for n in ("instrText", "pPr", "rPr", "sectPr", "tblPr", "tblGrid", "trPr", "tcPr", "sdtPr", "footnoteRef",
                    "endnoteRef", "annotationRef", "rubyPr", "rt")
} | {
    _M + n for n in ("ctrlPr", "fPr", "radPr", "sSupPr", "sSubPr", "sSubSupPr", "accPr", "barPr", "funcPr", "mPr",
                     "dPr", "naryPr", "limLowPr", "limUppPr", "eqArrPr", "groupChrPr", "oMathParaPr")
}  # fmt: skip
_MOST_SPAN = 100  # columns that one cell fills at most
_CODE = {
    "source code", "code", "code block", "html preformatted", "preformatted text", "macro text", "macro",
}  # fmt: skip
_SYMBOLS = {"F0FE": "☒", "F0A8": "☐", "F06F": "☐", "F0FC": "✓", "F0FB": "✗", "F0E0": "→", "F0B7": "•", "F0A7": "•"}


class DocxParser:
    """Office Open XML text documents, templates and those with macros."""

    name = "docx"
    version = "2"
    media_types = (DOCX,)

    def parse(self, data: bytes, *, name: str, media_type: str, reading: Reading = Reading()) -> Parsed:
        with package(data) as packed:
            main = packed.main("word", "word/document.xml")
            body = packed.tree(main)
            if body is None:
                raise ParseFailed("It is no Word document: the main part is missing.", kind="malformed")
            return _Document(packed, main, TextBuilder(reading.text)).read(body)


class _Document:
    def __init__(self, packed: Package, main: str, out: TextBuilder) -> None:
        self._packed, self._out = packed, out
        self._main = main
        self._related = packed.relations(main)
        self._styles = _Styles(self._side("styles"))
        self._lists = _Lists(self._side("numbering"))
        self._left = Counter[str]()
        self._graphics: list[Element] = []  # of the paragraph that is being read
        self._listed = False

    def _side(self, kind: str) -> Element | None:
        """A part beside the main one, found as the document says, else by its usual name."""
        said = next((r.target for r in self._related.values() if r.kind == kind and not r.external), "")
        return self._packed.tree(said if said in self._packed else f"word/{kind}.xml")

    def read(self, document: Element) -> Parsed:
        root = document.find(W + "body")
        self._blocks(root if root is not None else document)
        for kind, tag in (("footnotes", "footnote"), ("endnotes", "endnote")):
            self._notes(self._side(kind), tag)
        self._comments(self._side("comments"))
        self._repeated()
        parts = list(self._packed.embedded(self._related.values()))
        self._left["embedded files"] -= len(parts)  # of those that stand in the text
        return self._out.parsed(self._packed.title(), self._remarks(), parts)

    # --- blocks -----------------------------------------------------------------------------------
    def _blocks(self, root: Element, **more: Any) -> None:
        """Everything in order. Text boxes follow the paragraph that they hang on."""
        stack = [root]
        while stack:
            node = stack.pop()
            if node.tag == W + "p":
                boxes: list[Element] = []
                self._paragraph(node, boxes, **more)
                self._draw()
                stack.extend(reversed(boxes))
            elif node.tag == W + "tbl":
                alone = _alone(node)
                if alone is not None:
                    stack.extend(reversed(alone))
                else:
                    rows, heads = self._table(node)
                    lay(self._out, rows, names=heads, **more)
                    self._draw()
                self._listed = False
            elif node.tag in _DELETED:
                self._left["tracked changes"] += 1
            elif node.tag not in _SKIP and node.tag != _MC + "Fallback":
                stack.extend(reversed(node))

    def _paragraph(self, node: Element, boxes: list[Element], **more: Any) -> None:
        properties = node.find(W + "pPr")
        style = _value(properties, "pStyle") or self._styles.default
        level = self._styles.level(style, _value(properties, "outlineLvl"))
        text = self._text(node, boxes)
        where = place(**more)
        numbered = None if properties is None else properties.find(W + "numPr")
        mark = None
        if text.strip():
            mark = self._lists.mark(*self._styles.numbering(style, numbered))
        if not text.strip():
            return  # an empty line between two items does not end their list
        if level:
            shown = f"{mark} " if mark and mark != "-" else ""
            self._out.add("heading", shown + " ".join(text.split()), level=level, place=where)
        elif mark is not None or self._styles.listed(style):
            self._out.add("list", f"{mark or '-'} {text.strip()}", near=self._listed, place=where)
            self._listed = True
            return
        elif self._styles.code(style):
            self._out.add("code", text, place=where)
        else:
            self._out.add("paragraph", text, place=where)
        self._listed = False

    def _draw(self) -> None:
        """Charts and SmartArt of what was just read."""
        for node in self._graphics:
            graphic(self._packed, node, self._related, self._out)
        self._graphics.clear()

    def _table(self, table: Element) -> tuple[list[list[str]], int | None]:
        """Its rows with merged cells filled, and how many of them it says are headings."""
        rows: list[list[str]] = []
        heads, open_heads = 0, True
        for row in _children(table, W + "tr"):
            properties = row.find(W + "trPr")
            said = properties is not None and properties.find(W + "tblHeader") is not None
            open_heads = open_heads and said
            heads += open_heads
            if properties is not None and properties.find(W + "del") is not None:
                self._left["tracked changes"] += 1
                continue
            cells = [""] * min(int(_value(properties, "gridBefore") or 0), _MOST_SPAN)
            found = list(_children(row, W + "tc"))
            for cell in found:
                about = cell.find(W + "tcPr")
                merge = None if about is None else about.find(W + "vMerge")
                if merge is not None and merge.get(W + "val") != "restart":
                    text = rows[-1][len(cells)] if rows and len(cells) < len(rows[-1]) else ""
                else:
                    text = self._cell(cell)
                span = int(_value(about, "gridSpan") or 1)
                cells += [text] if len(found) == 1 else [text] * min(max(span, 1), _MOST_SPAN)
            rows.append(cells)
        return rows, heads or None

    def _cell(self, cell: Element) -> str:
        """All text of a cell; rows of a table inside it are parted by semicolons."""
        parts: list[str] = []
        stack: list[Element | str] = [cell]
        while stack:
            node = stack.pop()
            if isinstance(node, str):
                parts.append(node)
            elif node.tag == W + "p":
                boxes: list[Element] = []
                text = self._text(node, boxes).strip()
                if text:
                    properties = node.find(W + "pPr")
                    style = _value(properties, "pStyle")
                    numbered = None if properties is None else properties.find(W + "numPr")
                    mark = self._lists.mark(*self._styles.numbering(style, numbered))
                    parts.append(f"{mark} {text}" if mark else text)
                stack.extend(reversed(boxes))
            elif node.tag in _DELETED:
                self._left["tracked changes"] += 1
            elif node.tag not in _SKIP and node.tag != _MC + "Fallback":
                if node.tag == W + "tr":
                    stack.append(";")
                stack.extend(reversed(node))
        return " ".join(parts).replace(" ;", ";").strip("; ")

    # --- text -------------------------------------------------------------------------------------
    def _text(self, paragraph: Element, boxes: list[Element]) -> str:
        """What a paragraph says. Text boxes in it are handed over: they are paragraphs of their own."""
        parts: list[str] = []
        stack: list[Element | str] = [paragraph]
        while stack:
            node = stack.pop()
            if isinstance(node, str):
                parts.append(node)
                continue
            tag = node.tag
            if tag in _SKIP or tag == _MC + "Fallback":
                continue
            if tag in _DELETED:
                self._left["tracked changes"] += 1
            elif tag == W + "t" or tag == _M + "t":
                parts.append(node.text or "")
            elif tag in (W + "tab", W + "ptab"):
                parts.append("\t" if tag == W + "tab" else " ")
            elif tag in (W + "br", W + "cr"):
                parts.append("\n")
            elif tag == W + "noBreakHyphen":
                parts.append("-")
            elif tag == W + "sym":
                parts.append(_SYMBOLS.get((node.get(W + "char") or "").upper(), ""))
            elif tag in (W + "footnoteReference", W + "endnoteReference"):
                parts.append(f"[{'e' if 'end' in tag else ''}{node.get(W + 'id')}]")
            elif tag == W + "txbxContent":
                boxes.append(node)
            elif tag == _A + "graphicData" and "picture" not in node.get("uri", ""):
                self._graphics.append(node)
                stack.extend(reversed(node))
            elif tag == W + "r" and self._hidden(node):
                self._left["hidden text"] += 1
            elif tag == W + "hyperlink":
                target = self._related.get(node.get(R + "id") or "", Relation("", "", False)).target
                if target.startswith(("http://", "https://", "mailto:")):
                    shown = "".join(t.text or "" for t in node.iter(W + "t")).strip()
                    if shown and shown != target and f"mailto:{shown}" != target:
                        stack.append(f" ({target})")
                stack.extend(reversed(node))
            elif tag == _WP + "docPr" or tag.endswith("}cNvPr"):
                said = described(node.get("descr"))
                if said and not any(said in part for part in parts[-3:]):
                    parts.append(f" [{said}] ")
            elif tag == _A + "blip" or tag.endswith("}imagedata"):
                self._left["pictures"] += 1
            elif tag.endswith("}OLEObject"):
                self._left["embedded files"] += 1
            elif tag.startswith(_A) and tag.endswith("}t"):  # SmartArt and shapes that Word draws itself
                parts.append(f"{node.text or ''} ")
            elif tag.startswith(_M):
                stack.extend(reversed(_formula(node)))
            else:
                stack.extend(reversed(node))
        text = "".join(parts)
        return "\n".join(" ".join(line.split()) if "\t" in line else line for line in text.split("\n"))

    def _hidden(self, run: Element) -> bool:
        properties = run.find(W + "rPr")
        return _on(properties, "vanish") and any(t.text for t in run.iter(W + "t"))

    # --- what stands at the end -------------------------------------------------------------------
    def _notes(self, notes: Element | None, tag: str) -> None:
        for note in () if notes is None else notes.iter(W + tag):
            if note.get(W + "type") in ("separator", "continuationSeparator", "continuationNotice"):
                continue
            boxes: list[Element] = []
            said = " ".join(self._text(p, boxes).strip() for p in note.iter(W + "p")).strip()
            if said:
                self._out.add("paragraph", f"[{'e' if tag == 'endnote' else ''}{note.get(W + 'id')}] {said}")

    def _comments(self, comments: Element | None) -> None:
        for comment in () if comments is None else comments.iter(W + "comment"):
            boxes: list[Element] = []
            said = " ".join(self._text(p, boxes).strip() for p in comment.iter(W + "p")).strip()
            who = " ".join((comment.get(W + "author") or "").split())
            if said:
                self._out.add("paragraph", f"Comment{f' by {who}' if who else ''}: {said}", place="part=comments")

    def _repeated(self) -> None:
        """Heads and feet of pages, each text once; page numbers alone say nothing."""
        seen: set[str] = set()
        for kind in ("header", "footer"):
            for relation in self._related.values():
                root = self._packed.tree(relation.target) if relation.kind == kind and not relation.external else None
                for node in () if root is None else root.iter(W + "p"):
                    boxes: list[Element] = []
                    text = " ".join(self._text(node, boxes).split())
                    if any(c.isalpha() for c in text) and text not in seen:
                        seen.add(text)
                        self._out.add("paragraph", text, place=f"part={kind}s")

    def _remarks(self) -> list[str]:
        if "word/vbaproject.bin" in self._packed:
            self._left["macros"] = 0
        if self._left["embedded files"] <= 0:
            del self._left["embedded files"]
        return unread(self._left)


class _Styles:
    """What a style says of its paragraphs: heading level, numbering, list, code; inherited from what it is based on."""

    def __init__(self, styles: Element | None) -> None:
        self.default = ""
        self._levels: dict[str, int] = {}
        self._numbers: dict[str, tuple[str, str]] = {}
        self._names: dict[str, str] = {}
        self._based: dict[str, str] = {}
        if styles is None:
            self._levels = {f"Heading{n}": n for n in range(1, 10)} | {"Title": 1}
            return
        for style in styles.iter(W + "style"):
            if style.get(W + "type") not in (None, "paragraph"):
                continue
            identity = style.get(W + "styleId") or ""
            name = (_value(style, "name") or "").lower()
            properties = style.find(W + "pPr")
            outline = _value(properties, "outlineLvl")
            if name.startswith("heading ") and name[8:].isdigit():
                self._levels[identity] = int(name[8:])
            elif name == "title":
                self._levels[identity] = 1
            elif outline is not None and outline.isdigit():
                self._levels[identity] = int(outline) + 1 if outline < "9" else 0
            numbered = None if properties is None else properties.find(W + "numPr")
            if numbered is not None:
                self._numbers[identity] = (_value(numbered, "numId") or "", _value(numbered, "ilvl") or "")
            self._names[identity] = name
            self._based[identity] = _value(style, "basedOn") or ""
            if style.get(W + "default") in ("1", "true") and style.get(W + "type") == "paragraph":
                self.default = identity

    def _up(self, identity: str) -> Iterator[str]:
        for _ in range(20):
            if not identity:
                return
            yield identity
            identity = self._based.get(identity, "")

    def level(self, style: str, outline: str | None) -> int:
        if outline is not None and outline.isdigit():
            return int(outline) + 1 if outline < "9" else 0
        return next((self._levels[s] for s in self._up(style) if s in self._levels), 0)

    def numbering(self, style: str | None, direct: Element | None) -> tuple[str, str, str]:
        """Number of the list, its level, and the style, which may choose the level. A direct ``0`` takes it away."""
        at = next((s for s in self._up(style or "") if s in self._numbers), "")
        said, deep = self._numbers.get(at, ("", ""))
        if direct is not None:
            said, deep = _value(direct, "numId") or said, _value(direct, "ilvl") or deep
        return said, deep, at

    def listed(self, style: str) -> bool:
        """By its name alone: a style of a list whose numbering is lost. List Paragraph is none: it only indents."""
        names = [self._names.get(s) or s.lower().replace("list", "list ", 1) for s in self._up(style)]
        return any(n.startswith("list ") for n in names) and not names[0].startswith("list paragraph")

    def code(self, style: str) -> bool:
        return any(self._names.get(s, "") in _CODE for s in self._up(style))


class _Lists:
    """The marks of numbered and bulleted paragraphs, counted as Word counts them."""

    def __init__(self, numbering: Element | None) -> None:
        self._levels: dict[str, dict[int, tuple[str, str, int]]] = {}  # abstract: level: (format, text, start)
        self._styles: dict[tuple[str, str], int] = {}
        self._abstract: dict[str, str] = {}
        self._starts: dict[tuple[str, int], int] = {}
        self._counts: dict[str, dict[int, int]] = {}
        self._begun: set[str] = set()
        for node in () if numbering is None else numbering.iter(W + "abstractNum"):
            identity = node.get(W + "abstractNumId") or ""
            self._levels[identity] = {}
            for level in node.iter(W + "lvl"):
                at = int(level.get(W + "ilvl") or 0)
                start = int(_value(level, "start") or 1)
                shown = (_value(level, "numFmt") or "decimal", _value(level, "lvlText") or "", start)
                self._levels[identity][at] = shown
                if style := _value(level, "pStyle"):
                    self._styles[identity, style] = at
        for node in () if numbering is None else numbering.iter(W + "num"):
            number = node.get(W + "numId") or ""
            self._abstract[number] = _value(node, "abstractNumId") or ""
            for over in node.iter(W + "lvlOverride"):
                if start_at := _value(over, "startOverride"):
                    self._starts[number, int(over.get(W + "ilvl") or 0)] = int(start_at)

    def mark(self, number: str, deep: str, style: str) -> str | None:
        """``1.2``, ``b)`` or ``-`` for the next item of a list; ``None`` for what is no item."""
        if not number or number == "0":
            return None
        abstract = self._abstract.get(number, "")
        levels = self._levels.get(abstract, {})
        level = int(deep) if deep else self._styles.get((abstract, style), 0)
        kind, pattern, start = levels.get(level, ("bullet", "", 1))
        counts = self._counts.setdefault(abstract or number, {})
        if number not in self._begun:  # a list that says so starts again where it is first used
            self._begun.add(number)
            for (owner, at), first in self._starts.items():
                if owner == number:
                    counts[at] = first - 1
        counts[level] = counts.get(level, start - 1) + 1
        for deeper in [at for at in counts if at > level]:
            del counts[deeper]
        if kind == "none":
            return "-" if pattern else None
        if kind == "bullet" or not pattern:
            return "-"
        for at in range(level + 1):
            here = levels.get(at, ("decimal", "", 1))
            pattern = pattern.replace(f"%{at + 1}", _number(counts.get(at, here[2]), here[0]))
        return pattern.strip() or "-"


def _number(count: int, kind: str) -> str:
    if kind in ("lowerLetter", "upperLetter") and 0 < count <= 26 * 20:
        letter = chr(97 + (count - 1) % 26) * ((count - 1) // 26 + 1)
        return letter if kind == "lowerLetter" else letter.upper()
    if kind in ("lowerRoman", "upperRoman") and 0 < count < 4000:
        out = ""
        for value, sign in ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"),
                            (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i")):  # fmt: skip
            out += sign * (count // value)
            count %= value
        return out if kind == "lowerRoman" else out.upper()
    return f"{count:02}" if kind == "decimalZero" else str(count)


def _formula(node: Element) -> list[Element | str]:
    """What stands for a formula's node, in LaTeX: its parts, with marks between them."""
    kind = node.tag[len(_M) :]
    part = {child.tag[len(_M) :]: child for child in node}
    about = node.find(f"{_M}{kind}Pr")

    def said(name: str, otherwise: str) -> str:
        found = None if about is None else about.find(_M + name)
        return otherwise if found is None else found.get(_M + "val", "")

    def wrapped(*pattern: str) -> list[Element | str]:
        return [part[p[1:]] if p[:1] == "@" and p[1:] in part else "" if p[:1] == "@" else p for p in pattern]

    if kind == "f":
        return wrapped("\\frac{", "@num", "}{", "@den", "}")
    if kind == "sSup":
        return wrapped("{", "@e", "}^{", "@sup", "}")
    if kind == "sSub":
        return wrapped("{", "@e", "}_{", "@sub", "}")
    if kind == "sSubSup":
        return wrapped("{", "@e", "}_{", "@sub", "}^{", "@sup", "}")
    if kind == "rad":
        return wrapped("\\sqrt[", "@deg", "]{", "@e", "}") if "deg" in part and len(part["deg"]) else wrapped(
            "\\sqrt{", "@e", "}")  # fmt: skip
    if kind == "nary":
        return [said("chr", "∫"), *wrapped("_{", "@sub", "}^{", "@sup", "}", "@e")]
    if kind == "func":
        return wrapped("@fName", " ", "@e")
    if kind in ("limLow", "limUpp"):
        return wrapped("@e", "_{" if kind == "limLow" else "^{", "@lim", "}")
    if kind == "d":
        inner: list[Element | str] = []
        for child in node.findall(_M + "e"):
            inner += [said("sepChr", "|") if inner else said("begChr", "("), child]
        return [*inner, said("endChr", ")")]
    if kind in ("m", "eqArr"):
        cells: list[Element | str] = []
        for row in node.findall(_M + ("mr" if kind == "m" else "e")):
            cells += [" \\\\ "] if cells else []
            for n, child in enumerate(row if kind == "m" else (row,)):
                cells += [" & ", child] if n else [child]
        return ["\\begin{matrix}", *cells, "\\end{matrix}"] if kind == "m" else cells
    return list(node)


def _alone(table: Element) -> list[Element] | None:
    """What lies in a table of one cell: a frame around text."""
    rows = list(_children(table, W + "tr"))
    cells = list(_children(rows[0], W + "tc")) if len(rows) == 1 else []
    return list(cells[0]) if len(cells) == 1 else None


def _children(node: Element, tag: str) -> Iterator[Element]:
    """Rows of a table or cells of a row, also those in content controls; never those of a table inside."""
    stack = list(reversed(node))
    while stack:
        child = stack.pop()
        if child.tag == tag:
            yield child
        elif child.tag in (W + "sdt", W + "sdtContent", W + "ins", W + "customXml", W + "smartTag"):
            stack.extend(reversed(child))


def _value(node: Element | None, name: str) -> str | None:
    child = None if node is None else node.find(W + name)
    return None if child is None else child.get(W + "val")


def _on(properties: Element | None, name: str) -> bool:
    node = None if properties is None else properties.find(W + name)
    return node is not None and node.get(W + "val", "1") not in ("0", "false", "off")
