"""OpenDocument texts, spreadsheets and presentations, packed or flat.

Guarantees: headings with their level, paragraphs, list items, tables with merged cells filled and their place, notes
and comments, text boxes, pictures' descriptions; sheets and slides in order, cells as they are shown. Left out, each
with a note: what tracked changes deleted, hidden text, pictures, macros. A document under a password is opened with
those that the source was given. Nothing is fetched; no walk recurses.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from drystone.errors import ParseFailed
from drystone.ingest.media import ODP, ODS, ODT
from drystone.ingest.parsers.build import TextBuilder, unread
from drystone.ingest.parsers.locked import LOCKED, UNFITTING
from drystone.ingest.parsers.ooxml import MOST_BYTES, Package, described, lay, package, tree
from drystone.ingest.parsers.sheets import Row, sheet
from drystone.records import Parsed, Reading
from drystone.records.place import place

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_NS = "{urn:oasis:names:tc:opendocument:xmlns:%s:1.0}"
_OFFICE, _TEXT, _TABLE, _DRAW, _STYLE = (_NS % n for n in ("office", "text", "table", "drawing", "style"))
_SHOW, _MANIFEST, _FO = (_NS % n for n in ("presentation", "manifest", "xsl-fo-compatible"))
_CHART = _NS % "chart"
_MATH = "{http://www.w3.org/1998/Math/MathML}"
_SVG = _NS % "svg-compatible"
_DC = "{http://purl.org/dc/elements/1.1/}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_REPEAT = 1_000  # cells that one repeated cell stands for at most
_HIDDEN = {_TEXT + "hidden-text", _TEXT + "hidden-paragraph"}
_APART = {_OFFICE + "annotation", _TEXT + "note", _DRAW + "text-box", _TABLE + "table"}  # not part of a line


class OdfParser:
    """OpenDocument files and templates; what it is, its content says."""

    name = "odf"
    version = "1"
    media_types = (ODT, ODS, ODP)

    def parse(self, data: bytes, *, name: str, media_type: str, reading: Reading = Reading()) -> Parsed:
        out = TextBuilder(reading.text)
        if not data.startswith(b"PK"):
            try:
                root = tree(data)
            except (ElementTree.ParseError, ValueError):
                raise ParseFailed("It is damaged, or no OpenDocument file.", kind="malformed") from None
            return _Document(out, root, root, (), None).read(root)
        with package(data) as packed:
            files = _opened(packed, reading.passwords)
            content = files("content.xml")
            if content is None:
                raise ParseFailed("It is no OpenDocument file: the content is missing.", kind="malformed")
            notes = ["encrypted: opened with a password"] if files.opened else []
            if packed.names("basic/") or packed.names("scripts/"):
                notes.append("macros: not read")
            styles = files("styles.xml")
            meta = files("meta.xml")
            return _Document(out, tree(content), None if styles is None else tree(styles), notes, files).read(
                None if meta is None else tree(meta))  # fmt: skip


class _Document:
    def __init__(
        self, out: TextBuilder, content: Element, styles: Element | None, notes: Sequence[str], files: _Files | None
    ) -> None:
        self._files = files
        self._out, self._content, self._styles = out, content, styles
        self._notes = list(notes)
        self._left = Counter[str]()
        self._numbered: dict[str, list[tuple[str, str, str]]] = {}
        self._hidden_styles: set[str] = set()
        self._bases: dict[str, str] = {}
        for root in (styles, content):
            for node in () if root is None else root.iter():
                if node.tag == _TEXT + "list-style":
                    self._numbered[node.get(_STYLE + "name") or ""] = [
                        (level.get(_STYLE + "num-format") or "", level.get(_STYLE + "num-prefix") or "",
                         level.get(_STYLE + "num-suffix") or "") for level in node]  # fmt: skip
                elif node.tag == _STYLE + "style":
                    text = node.find(_STYLE + "text-properties")
                    if text is not None and text.get(_TEXT + "display") == "none":
                        self._hidden_styles.add(node.get(_STYLE + "name") or "")
                    self._bases[node.get(_STYLE + "name") or ""] = node.get(_STYLE + "parent-style-name") or ""

    def read(self, meta: Element | None) -> Parsed:
        body = self._content.find(_OFFICE + "body")
        kind = next(iter(body), None) if body is not None else None
        if kind is None:
            raise ParseFailed("It is no OpenDocument file: the content has no body.", kind="malformed")
        if kind.tag == _OFFICE + "spreadsheet":
            self._sheets(kind)
        elif kind.tag in (_OFFICE + "presentation", _OFFICE + "drawing"):
            self._slides(kind)
        else:
            self._flow(kind)
            self._repeated()
        title = next((n.text or "" for n in meta.iter(_DC + "title")), "") if meta is not None else ""
        notes = [*self._notes, *unread(self._left)]
        return self._out.parsed(title, notes)

    # --- texts ------------------------------------------------------------------------------------
    def _flow(self, root: Element, **frame: Any) -> None:
        """Headings, paragraphs, lists and tables in order; what hangs on a paragraph follows it."""
        where = place(**frame)
        # What is still to come: a node, the marks of the lists around it, and whether it begins an item.
        stack: list[tuple[Element, tuple[_List, ...], bool]] = [(root, (), False)]
        near = False
        while stack:
            node, lists, first = stack.pop()
            if node.tag in (_TEXT + "p", _TEXT + "h"):
                apart: list[Element] = []
                text = self._line(node, apart).strip()
                stack.extend((n, (), False) for n in reversed(apart))
                if not text:
                    continue
                if node.tag == _TEXT + "h":
                    level = int(node.get(_TEXT + "outline-level") or 1)
                    self._out.add("heading", " ".join(text.split()), level=max(1, min(level, 9)), place=where)
                elif self._named(node, "Title"):
                    self._out.add("heading", " ".join(text.split()), level=1, place=where)
                elif lists:
                    mark = lists[-1].mark() + " " if first else ""
                    self._out.add("list", mark + text, near=near, place=where)
                    near = True
                    continue
                elif self._named(node, "Preformatted_20_Text"):
                    self._out.add("code", text, place=where)
                else:
                    self._out.add("paragraph", text, place=where)
                near = False
            elif node.tag == _TABLE + "table":
                rows, heads = self._table(node)
                inside = _alone(node)
                if inside is not None:
                    stack.extend((n, (), False) for n in reversed(inside))
                else:
                    lay(self._out, rows, names=heads or None, **frame)
                near = False
            elif node.tag == _TEXT + "list":
                style = node.get(_TEXT + "style-name") or (lists[0].style if lists else "")
                levels = self._numbered.get(style, [])
                at = levels[len(lists)] if len(lists) < len(levels) else ("", "", "")
                inner = (*lists, _List(style, *at))
                for item in reversed(node):
                    header = item.tag == _TEXT + "list-header"
                    for n, child in reversed(list(enumerate(item))):
                        stack.append((child, inner, n == 0 and not header))
            elif node.tag == _TEXT + "tracked-changes":
                self._left["tracked changes"] += 1
            elif node.tag == _TEXT + "note":
                body = node.find(_TEXT + "note-body")
                said = " ".join(self._all(body)) if body is not None else ""
                self._out.add("paragraph", f"[{node.findtext(_TEXT + 'note-citation') or '*'}] {said}", place=where)
            elif node.tag == _OFFICE + "annotation":
                self._comment(node, where)
            elif node.tag == _DRAW + "frame" or node.tag == _DRAW + "g":
                if said := self._described(node):
                    self._out.add("paragraph", said, place=where)
                only = node.find(_DRAW + "object")
                stack.extend((n, (), False) for n in (reversed(node) if only is None else [only]))
            elif node.tag == _DRAW + "image":
                self._left["pictures"] += 1
            elif node.tag == _DRAW + "object":
                formula, rows = self._object(node)
                self._out.add("paragraph", formula, place=where)
                lay(self._out, rows, names=1, **frame)
            elif node.tag not in (
                _TEXT + "sequence-decls",
                _OFFICE + "forms",
                _SHOW + "notes",
                _TEXT + "index-title-template",
            ):
                stack.extend((n, lists, False) for n in reversed(node))

    def _named(self, node: Element, name: str) -> bool:
        at = node.get(_TEXT + "style-name") or ""
        return at == name or self._bases.get(at) == name

    def _line(self, paragraph: Element, apart: list[Element]) -> str:
        """What a paragraph says. Frames with text, tables, notes and comments in it are handed over."""
        parts: list[str] = []
        stack: list[Element | str] = [paragraph]
        while stack:
            node = stack.pop()
            if isinstance(node, str):
                parts.append(node)
                continue
            if node is not paragraph and node.tail:
                stack.append(_plain(node.tail))
            if node.tag in _APART:
                if node.tag == _TEXT + "note":
                    parts.append(f"[{node.findtext(_TEXT + 'note-citation') or '*'}]")
                apart.append(node)
                continue
            if node.tag in _HIDDEN or node.get(_TEXT + "style-name") in self._hidden_styles:
                self._left["hidden text"] += 1
                continue
            if node.tag == _TEXT + "s":
                parts.append(" " * min(int(node.get(_TEXT + "c") or 1), 100))
            elif node.tag == _TEXT + "tab":
                parts.append(" ")
            elif node.tag == _TEXT + "line-break":
                parts.append("\n")
            elif node.tag == _DRAW + "image":
                self._left["pictures"] += 1
                continue
            elif node.tag == _DRAW + "object":
                formula, rows = self._object(node)
                parts.append(f" {formula} ")
                parts += [f"{' '.join(row)}; " for row in rows]
                continue
            elif node.tag == _TEXT + "ruby-text" or node.tag.startswith(_OFFICE):
                continue
            elif node.tag in (_DRAW + "frame", _DRAW + "g"):
                said = self._described(node)
                parts.append(f" [{said}] " if said else "")
                if (only := node.find(_DRAW + "object")) is not None:
                    stack.append(only)  # and not the picture that stands for it
                    continue
            elif node.tag == _TEXT + "a" and (node.get(_LINK) or "").startswith(("http://", "https://", "mailto:")):
                target, said = node.get(_LINK) or "", "".join(node.itertext()).strip()
                if said and said not in (target, target.removeprefix("mailto:")):
                    stack.append(f" ({target})")
            if node.tag.startswith(_SVG):
                continue
            stack.extend(reversed(node))
            if node.text:
                parts.append(_plain(node.text))
        return "\n".join(" ".join(line.split()) for line in "".join(parts).split("\n"))

    def _object(self, node: Element) -> tuple[str, list[list[str]]]:
        """A formula as its author typed it, or a chart's title and its numbers; nothing for other objects."""
        name = (node.get(_LINK) or "").removeprefix("./")
        inside = next(iter(node), None)
        if inside is None:
            raw = self._files(f"{name}/content.xml") if self._files is not None and name else None
            inside = tree(raw) if raw is not None else None
        if inside is None:
            self._left["embedded files"] += 1
            return "", []
        if inside.tag == _MATH + "math":
            typed = next((n.text or "" for n in inside.iter(_MATH + "annotation")), "")
            return " ".join((typed or " ".join(inside.itertext())).split()), []
        chart = next(inside.iter(_CHART + "chart"), None)
        if chart is None:
            self._left["embedded files"] += 1
            return "", []
        title = chart.find(_CHART + "title")
        table = next(chart.iter(_TABLE + "table"), None)
        rows = [[_shown(c, self._all(c)) for c in row if c.tag == _TABLE + "table-cell"]
                for row, _ in _rows(table)] if table is not None else []  # fmt: skip
        return " ".join(self._all(title)) if title is not None else "", rows

    def _described(self, frame: Element) -> str:
        said = [" ".join((frame.findtext(_SVG + n) or "").split()) for n in ("title", "desc")]
        return ". ".join(dict.fromkeys(s for text in said if (s := described(text))))

    def _comment(self, node: Element, where: str) -> None:
        who = " ".join((node.findtext(_DC + "creator") or "").split())
        said = " ".join(self._all(node))
        if said:
            self._out.add("paragraph", f"Comment{f' by {who}' if who else ''}: {said}", place=where)

    def _all(self, root: Element) -> Iterator[str]:
        """Every paragraph below a node, one after the other, with what hangs on it; for cells, notes and comments."""
        stack: list[Element] = [root]
        while stack:
            node = stack.pop()
            if node.tag in (_TEXT + "p", _TEXT + "h"):
                apart: list[Element] = []
                if text := self._line(node, apart).strip():
                    yield text
                stack.extend(reversed(apart))
            elif node.tag == _DRAW + "image":
                self._left["pictures"] += 1
            elif node.tag != _OFFICE + "annotation" or node is root:
                stack.extend(reversed(node))

    def _repeated(self) -> None:
        """Heads and feet of pages, each text once."""
        seen: set[str] = set()
        for master in () if self._styles is None else self._styles.iter(_STYLE + "master-page"):
            for node in master:
                kind = node.tag[len(_STYLE) :].split("-")[0]
                for text in self._all(node) if kind in ("header", "footer") else ():
                    if any(c.isalpha() for c in text) and text not in seen:
                        seen.add(text)
                        self._out.add("paragraph", text, place=f"part={kind}s")

    # --- tables -----------------------------------------------------------------------------------
    def _table(self, table: Element) -> tuple[list[list[str]], int]:
        """The rows of a table in a text, merged cells filled, and how many of them it says are headings."""
        rows, heads = list[list[str]](), 0
        over: dict[int, tuple[int, str]] = {}  # column: rows still to be filled, and with what
        for row, header in _rows(table):
            cells: list[str] = []
            span, text = 0, ""
            for cell in row:
                covered = cell.tag == _TABLE + "covered-table-cell"
                if cell.tag != _TABLE + "table-cell" and not covered:
                    continue
                for _ in range(_times(cell, "columns")):
                    at = len(cells)
                    if not covered:
                        text = " ".join(self._all(cell))
                        span = int(cell.get(_TABLE + "number-columns-spanned") or 1)
                        deep = int(cell.get(_TABLE + "number-rows-spanned") or 1)
                        for column in range(at, min(at + span, at + 100)) if deep > 1 else ():
                            over[column] = (deep, text)
                        cells.append(text)
                    elif span > 0:
                        cells.append(text)
                    else:
                        cells.append(over.get(at, (0, ""))[1])
                    span -= 1
            over = {c: (left - 1, t) for c, (left, t) in over.items() if left > 1}
            heads += header and heads == len(rows)
            rows.append(cells)
        return rows, heads

    def _sheets(self, book: Element) -> None:
        hidden = 0
        styles = {n.get(_STYLE + "name") for n in self._content.iter(_STYLE + "style")
                  if any(p.get(_TABLE + "display") == "false" for p in n)}  # fmt: skip
        for table in book.findall(_TABLE + "table"):
            name = table.get(_TABLE + "name") or ""
            hidden += table.get(_TABLE + "style-name") in styles
            beside: list[tuple[Element, str]] = []
            sheet(self._out, name, self._cells(table, beside))
            for node, where in beside:
                self._comment(node, place(sheet=name, cells=where))
            shapes = table.find(_TABLE + "shapes")
            for text in self._all(shapes) if shapes is not None else ():
                self._out.add("paragraph", text, place=place(sheet=name))
        if hidden:
            self._notes.append(f"hidden sheets: {hidden} read too")

    def _cells(self, table: Element, beside: list[tuple[Element, str]]) -> Iterator[Row]:
        from drystone.records.place import cells

        number = 0
        over: dict[int, tuple[int, str]] = {}
        for row, _ in _rows(table):
            times = _times(row, "rows", 1 << 21)
            found: dict[int, str] = {}
            filled: dict[int, str] = {}
            column = 1
            for cell in row:
                if cell.tag not in (_TABLE + "table-cell", _TABLE + "covered-table-cell"):
                    continue
                here = _times(cell, "columns", 16_384)
                text = _shown(cell, self._all(cell)) if cell.tag == _TABLE + "table-cell" else ""
                if text:
                    for n in range(min(here, _REPEAT)):
                        found[column + n] = text
                    wide = min(int(cell.get(_TABLE + "number-columns-spanned") or 1), 100)
                    deep = int(cell.get(_TABLE + "number-rows-spanned") or 1)
                    for n in range(wide):
                        filled[column + n] = text
                        if deep > 1:
                            over[column + n] = (deep, text)
                for note in cell.findall(_OFFICE + "annotation"):
                    beside.append((note, cells(number + 1, column, number + 1, column)))
                column += here
            if found:
                merged = {**{c: t for c, (_, t) in over.items()}, **filled}
                if set(found) - {c for c, t in merged.items() if list(merged.values()).count(t) > 1}:
                    found = {**merged, **found}
                for _ in range(min(times, _REPEAT)):
                    number += 1
                    yield Row(number, dict(found))
                number += times - min(times, _REPEAT)
            else:
                number += times
            over = {c: (left - times, t) for c, (left, t) in over.items() if left > times}

    # --- slides -----------------------------------------------------------------------------------
    def _slides(self, deck: Element) -> None:
        hidden = 0
        styles = {n.get(_STYLE + "name") for n in self._content.iter(_STYLE + "style")
                  if any(p.get(_SHOW + "visibility") == "hidden" for p in n)}  # fmt: skip
        for number, page in enumerate(deck.findall(_DRAW + "page"), 1):
            hidden += page.get(_DRAW + "style-name") in styles
            shapes = [n for n in page if n.tag.startswith((_DRAW, _TABLE))]
            title = next((n for n in shapes if n.get(_SHOW + "class") == "title"), None)
            if title is not None:
                self._out.add("heading", " ".join(self._all(title)), level=1, place=place(slide=number))
            for shape in sorted(shapes, key=_corner):
                if shape is not title:
                    self._flow(shape, slide=number)
            notes = page.find(_SHOW + "notes")
            said = "\n".join(self._all(notes)).strip() if notes is not None else ""
            self._out.add("paragraph", f"Notes: {said}" if said else "", place=place(slide=number))
            for node in page.findall(_OFFICE + "annotation"):
                self._comment(node, place(slide=number))
        if hidden:
            self._notes.append(f"hidden slides: {hidden} read too")


class _List:
    """One list on the way down, and how far it has counted."""

    def __init__(self, style: str, kind: str, prefix: str, suffix: str) -> None:
        self.style, self._kind, self._prefix, self._suffix = style, kind, prefix, suffix
        self._count = 0

    def mark(self) -> str:
        self._count += 1
        if not self._kind:
            return "-"
        shown = chr((97 if self._kind == "a" else 65) + (self._count - 1) % 26) if self._kind in "aA" else self._count
        return f"{self._prefix}{shown}{self._suffix or '.'}"


def _plain(text: str) -> str:
    """White space in the XML is one space; line ends of a text are elements."""
    return text.replace("\n", " ").replace("\r", " ")


def _rows(table: Element) -> Iterator[tuple[Element, bool]]:
    """Rows in order, and whether they are headings; never those of a table inside a cell."""
    stack = [(n, False) for n in reversed(table)]
    while stack:
        node, header = stack.pop()
        if node.tag == _TABLE + "table-row":
            yield node, header
        elif node.tag in (_TABLE + "table-header-rows", _TABLE + "table-rows", _TABLE + "table-row-group"):
            header = header or node.tag == _TABLE + "table-header-rows"
            stack.extend((n, header) for n in reversed(node))


def _alone(table: Element) -> list[Element] | None:
    """What lies in a table of one cell: a frame around text."""
    rows = [row for row, _ in _rows(table)]
    cells = [c for c in rows[0] if c.tag == _TABLE + "table-cell"] if len(rows) == 1 else []
    return list(cells[0]) if len(cells) == 1 and _times(cells[0], "columns") == 1 else None


def _times(node: Element, what: str, most: int = _REPEAT) -> int:
    return max(1, min(int(node.get(f"{_TABLE}number-{what}-repeated") or 1), most))


def _shown(cell: Element, said: Iterator[str]) -> str:
    """A cell's text as it is shown; its value where the file keeps no text."""
    text = " ".join(said)
    kind = cell.get(_OFFICE + "value-type")
    if text or kind is None:
        return text
    return cell.get(_OFFICE + ("value" if kind in ("float", "percentage", "currency") else f"{kind}-value")) or ""


def _corner(shape: Element) -> tuple[int, float]:
    """Top, roughly, and left, in centimetres."""
    return int(_centimetres(shape.get(_SVG + "y")) / 0.6), _centimetres(shape.get(_SVG + "x"))


def _centimetres(length: str | None) -> float:
    units = {"cm": 1.0, "mm": 0.1, "in": 2.54, "pt": 2.54 / 72, "pc": 2.54 / 6, "px": 2.54 / 96}
    try:
        return float((length or "0")[:-2] or 0) * units.get((length or "")[-2:], 1.0)
    except ValueError:
        return 0.0


# --- encryption -----------------------------------------------------------------------------------
class _Files:
    """The parts of a package as bytes; opened with a key where the manifest says that they are encrypted."""

    def __init__(self, packed: Package, keys: dict[str, bytes] | None = None) -> None:
        self._packed, self._keys = packed, keys
        self.opened = keys is not None

    def __call__(self, name: str) -> bytes | None:
        if self._keys and name in self._keys:
            return self._keys[name]
        return self._packed.raw(name)


def _opened(packed: Package, passwords: Sequence[str]) -> _Files:
    """Raises ``ParseFailed`` with ``encrypted`` or ``wrong_password``."""
    manifest = packed.tree("META-INF/manifest.xml") if "META-INF/manifest.xml" in packed else None
    locked = {
        entry.get(_MANIFEST + "full-path") or "": entry for entry in
        (() if manifest is None else manifest.iter(_MANIFEST + "file-entry"))
        if entry.find(_MANIFEST + "encryption-data") is not None
    }  # fmt: skip
    if not locked:
        return _Files(packed)
    if not passwords:
        raise ParseFailed(LOCKED, kind="encrypted")
    whole = "encrypted-package"
    for password in passwords:
        if whole in locked:
            inside = _decrypted(packed.raw(whole) or b"", locked[whole], password)
            if inside is not None:
                with package(inside, MOST_BYTES) as inner:
                    names = ("content.xml", "styles.xml", "meta.xml")
                    return _Files(packed, {n: raw for n in names if (raw := inner.raw(n)) is not None})
            continue
        parts: dict[str, bytes] = {}
        for name in ("content.xml", "styles.xml", "meta.xml"):
            if name in locked:
                raw = _decrypted(packed.raw(name) or b"", locked[name], password)
                if raw is None:
                    break
                parts[name] = raw
        else:
            return _Files(packed, parts)
    raise ParseFailed(UNFITTING, kind="wrong_password")


def _decrypted(data: bytes, entry: Element, password: str) -> bytes | None:
    """One part opened (OpenDocument 1.2 to 1.4, part 2, chapter 4), or ``None`` if the password is another."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    about = entry.find(_MANIFEST + "encryption-data")
    method = about.find(_MANIFEST + "algorithm") if about is not None else None
    derived = about.find(_MANIFEST + "key-derivation") if about is not None else None
    started = about.find(_MANIFEST + "start-key-generation") if about is not None else None
    if about is None or method is None or derived is None:
        raise ParseFailed("It is encrypted in a way that we do not know.", kind="encrypted")
    cipher = method.get(_MANIFEST + "algorithm-name") or ""
    vector = base64.b64decode(method.get(_MANIFEST + "initialisation-vector") or "")
    salt = base64.b64decode(derived.get(_MANIFEST + "salt") or "")
    size = int(derived.get(_MANIFEST + "key-size") or 16)
    digest = (
        "sha256"
        if started is not None and "256" in (started.get(_MANIFEST + "start-key-generation-name") or "")
        else "sha1"
    )
    start = hashlib.new(digest, password.encode()).digest()
    named = (derived.get(_MANIFEST + "key-derivation-name") or "").lower()
    if "argon2id" in named:
        key = _argon2id(start, salt, size, derived)
    elif "pbkdf2" in named:
        rounds = int(derived.get(_MANIFEST + "iteration-count") or 1024)
        if rounds > 2_000_000:
            raise ParseFailed("It is encrypted with more rounds than are tried.", kind="encrypted")
        key = hashlib.pbkdf2_hmac("sha1", start, salt, rounds, size)
    else:
        raise ParseFailed("It is encrypted in a way that we do not know.", kind="encrypted")
    if cipher.endswith("aes256-gcm"):
        try:
            packed = AESGCM(key).decrypt(vector, data.removeprefix(vector), None)  # it may stand before the data too
        except InvalidTag:
            return None
    elif cipher.endswith(("aes256-cbc", "aes128-cbc", "aes192-cbc")):
        opener = Cipher(algorithms.AES(key), modes.CBC(vector)).decryptor()
        packed = opener.update(data[: len(data) // 16 * 16]) + opener.finalize()
        said = base64.b64decode(about.get(_MANIFEST + "checksum") or "")
        kind = (about.get(_MANIFEST + "checksum-type") or "").lower()
        packed = packed[: -packed[-1]] if packed and 0 < packed[-1] <= 16 else packed
        if said and hashlib.new("sha256" if "256" in kind else "sha1", packed[:1024]).digest() != said:
            return None
    else:
        raise ParseFailed("It is encrypted with a cipher that is no longer used.", kind="encrypted")
    unfolded = zlib.decompressobj(-15)
    try:
        raw = unfolded.decompress(packed, MOST_BYTES)
    except zlib.error:
        return packed if packed.startswith(b"PK") else None
    if unfolded.unconsumed_tail:
        raise ParseFailed("A part unfolds to more than is allowed.", kind="expansion")
    return raw


def _argon2id(start: bytes, salt: bytes, size: int, derived: Element) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    said = {key.rpartition("}")[2]: value for key, value in derived.attrib.items()}
    memory = int(said.get("argon2-memory") or 65_536)
    if memory > 1 << 19:
        raise ParseFailed("It is encrypted in a way that needs more memory than a parser may have.", kind="encrypted")
    try:
        return Argon2id(
            salt=salt, length=size, iterations=int(said.get("argon2-iterations") or 3),
            lanes=int(said.get("argon2-lanes") or 4), memory_cost=memory,
        ).derive(start)  # fmt: skip
    except UnsupportedAlgorithm:
        raise ParseFailed(
            "It is encrypted in a way that this system's library does not know.", kind="encrypted"
        ) from None
