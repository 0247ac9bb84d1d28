"""Word's and PowerPoint's binary documents (97 to 2003), read as [MS-DOC] and [MS-PPT] describe them.

Guarantees: of a text its headings with their level (by style, in any language), paragraphs, list items, tables, notes,
comments, text boxes, and what pages repeat, once, at the end; of a presentation its slides in order with titles,
text, tables and speaker notes. Left out, each with a note: hidden and deleted text, pictures. Encrypted documents are
opened with the source's passwords. Every offset is checked: a damaged file costs itself. Macros are never looked at.
"""

from __future__ import annotations

import io
import re
import struct
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from drystone.errors import ParseFailed
from drystone.ingest.media import DOC, PPT
from drystone.ingest.parsers.build import TextBuilder, unread
from drystone.ingest.parsers.locked import opened
from drystone.ingest.parsers.ooxml import Edged, gridded, lay
from drystone.records import Parsed, Reading
from drystone.records.place import place

_LINK = re.compile(r'HYPERLINK\s+(?:\\\w\s+)*"((?:https?://|mailto:)[^"]{1,2000})"')
_SUMMARY = "\x05SummaryInformation"
_SLACK = 60  # twips: edges that people see as one line
_MOST_RECORDS = 1_000_000
_BROKEN = (struct.error, IndexError, KeyError, ValueError, UnicodeError, OverflowError, OSError, TypeError)


class DocParser:
    """Word documents in the binary format."""

    name = "doc"
    version = "1"
    media_types = (DOC,)

    def parse(self, data: bytes, *, name: str, media_type: str, reading: Reading = Reading()) -> Parsed:
        try:
            streams, title = _streams(data, ("WordDocument", "0Table", "1Table"))
            notes: tuple[str, ...] = ()
            if "WordDocument" not in streams:
                raise ParseFailed("It is no Word document: the main stream is missing.", kind="malformed")
            if struct.unpack_from("<H", streams["WordDocument"], 10)[0] & 0x100:
                streams, title = _streams(opened(data, reading.passwords), ("WordDocument", "0Table", "1Table"))
                notes = ("encrypted: opened with a password",)
            return _Word(streams, TextBuilder(reading.text)).read(title, notes)
        except _BROKEN:
            raise ParseFailed("It is damaged, or no Word document.", kind="malformed") from None


class PptParser:
    """PowerPoint presentations in the binary format."""

    name = "ppt"
    version = "1"
    media_types = (PPT,)

    def parse(self, data: bytes, *, name: str, media_type: str, reading: Reading = Reading()) -> Parsed:
        wanted = ("PowerPoint Document", "Current User")
        try:
            streams, title = _streams(data, wanted)
            notes: tuple[str, ...] = ()
            if "PowerPoint Document" not in streams:
                raise ParseFailed("It is no presentation: the main stream is missing.", kind="malformed")
            user = streams.get("Current User", b"")
            if len(user) >= 16 and struct.unpack_from("<I", user, 12)[0] == 0xF3D1C4DF:
                streams, title = _streams(opened(data, reading.passwords), wanted)
                notes = ("encrypted: opened with a password",)
            return _Slides(streams["PowerPoint Document"], streams.get("Current User", b""),
                           TextBuilder(reading.text)).read(title, notes)  # fmt: skip
        except _BROKEN:
            raise ParseFailed("It is damaged, or no presentation.", kind="malformed") from None


def _streams(data: bytes, wanted: tuple[str, ...]) -> tuple[dict[str, bytes], str]:
    """The named streams of a compound file, and its title."""
    import olefile

    if not data.startswith(olefile.MAGIC):
        raise ParseFailed("It is no binary Office document.", kind="malformed")
    try:
        with olefile.OleFileIO(io.BytesIO(data)) as file:
            names = [name for name in (*wanted, _SUMMARY) if file.exists(name)]
            if any(file.get_size(name) > len(data) for name in names):
                raise ValueError("a stream is longer than the file")
            found = {name: file.openstream(name).read() for name in names}
    except (OSError, OverflowError, RecursionError):
        raise ParseFailed("It is damaged: the compound file cannot be opened.", kind="malformed") from None
    try:
        return found, _titled(found.pop(_SUMMARY, b""))
    except (struct.error, UnicodeError, LookupError):
        return found, ""  # a title is not worth a document


def _titled(raw: bytes) -> str:
    """The title among a file's properties ([MS-OLEPS]): property 2, in the code page that property 1 names."""
    if len(raw) < 48:
        return ""
    (start,) = struct.unpack_from("<I", raw, 44)
    (count,) = struct.unpack_from("<I", raw, start + 4)
    at = dict(struct.unpack_from("<II", raw, start + 8 + 8 * n) for n in range(min(count, 100)))
    if 2 not in at:
        return ""
    kind, size = struct.unpack_from("<II", raw, start + at[2])
    if kind & 0xFFFF == 0x1F:
        return raw[start + at[2] + 8 :][: 2 * min(size, 1_000)].decode("utf-16-le", "replace").strip("\0 ")
    page = struct.unpack_from("<H", raw, start + at[1] + 4)[0] if 1 in at else 1252
    codec = {65001: "utf-8", 1200: "utf-16-le", 10000: "mac_roman"}.get(page, f"cp{page}")
    return raw[start + at[2] + 8 :][: min(size, 1_000)].decode(codec, "replace").strip("\0 ")


# --- Word -----------------------------------------------------------------------------------------
class _Piece(NamedTuple):
    """Characters ``first`` to ``end`` of the text lie from byte ``at``, one or two bytes each."""

    first: int
    end: int
    at: int
    size: int


class _Paragraph(NamedTuple):
    style: int
    level: int | None
    listed: bool
    in_table: bool
    row_end: bool
    cells: tuple[tuple[int, str], ...] = ()  # of a row's end: right edges, and how each cell is merged


class _Word:
    def __init__(self, streams: dict[str, bytes], out: TextBuilder) -> None:
        self._main, self._out = streams["WordDocument"], out
        self._left = Counter[str]()
        (self._version,) = struct.unpack_from("<H", self._main, 2)
        (flags,) = struct.unpack_from("<H", self._main, 10)
        if struct.unpack_from("<H", self._main, 0)[0] not in (0xA5EC, 0xA5DC):
            raise ParseFailed("It is no Word document.", kind="malformed")
        self._table = streams.get("1Table" if flags & 0x200 else "0Table", b"")
        self._old = self._version < 0xC1
        if self._old:
            first, end = struct.unpack_from("<II", self._main, 0x18)
            self._pieces = [_Piece(0, end - first, first, 1)]
            self._counts = [struct.unpack_from("<I", self._main, 0x34)[0], 0, 0, 0, 0, 0]
            self._paragraphs: list[tuple[int, _Paragraph]] = []
            self._gone: list[tuple[int, int]] = []
            self._levels: dict[int, int] = {}
            return
        text, foot, head, _, note, end_, box = struct.unpack_from("<7I", self._main, 0x4C)
        self._counts = [text, foot, head, note, end_, box]
        self._pieces = self._clx()
        self._paragraphs = self._properties()
        self._gone = self._removed()
        self._levels = self._styles()

    def _at(self, index: int) -> tuple[int, int]:
        """Where one of the structures lies in the table stream, and its size."""
        at, size = struct.unpack_from("<II", self._main, 0x9A + 8 * index)
        return at, size

    def _clx(self) -> list[_Piece]:
        at, size = self._at(33)
        clx = self._table[at : at + size]
        at = 0
        while at < len(clx) and clx[at] == 1:
            at += 3 + struct.unpack_from("<H", clx, at + 1)[0]
        if at >= len(clx) or clx[at] != 2:
            raise ValueError("no pieces")
        (size,) = struct.unpack_from("<I", clx, at + 1)
        at += 5
        count = (size - 4) // 12
        ends = struct.unpack_from(f"<{count + 1}I", clx, at)
        pieces = []
        for n in range(count):
            (where,) = struct.unpack_from("<I", clx, at + 4 * (count + 1) + 8 * n + 2)
            packed = bool(where & 0x40000000)
            where &= 0x3FFFFFFF
            pieces.append(_Piece(ends[n], ends[n + 1], where // 2 if packed else where, 1 if packed else 2))
        return pieces

    def _text(self, first: int, end: int) -> Iterator[tuple[str, int]]:
        """Characters with the byte where each lies."""
        for piece in self._pieces:
            a, b = max(first, piece.first), min(end, piece.end)
            if a >= b:
                continue
            at = piece.at + (a - piece.first) * piece.size
            raw = self._main[at : at + (b - a) * piece.size]
            text = raw.decode("cp1252" if piece.size == 1 else "utf-16-le", "replace") if piece.size == 1 else "".join(
                map(chr, struct.unpack(f"<{len(raw) // 2}H", raw[: len(raw) // 2 * 2])))  # fmt: skip
            for n, letter in enumerate(text):
                yield letter, at + n * piece.size

    def _pages(self, index: int) -> Iterator[tuple[bytes, int, tuple[int, ...]]]:
        """Pages of formatting: the page, how many runs, and the bytes where they begin and end."""
        at, size = self._at(index)
        count = (size - 4) // 8
        for n in range(max(0, min(count, 1 << 16))):
            (number,) = struct.unpack_from("<I", self._table, at + 4 * (count + 1) + 4 * n)
            page = self._main[(number & 0x3FFFFF) * 512 :][:512]
            if len(page) == 512 and page[511]:
                yield page, page[511], struct.unpack_from(f"<{page[511] + 1}I", page, 0)

    def _properties(self) -> list[tuple[int, _Paragraph]]:
        """By the byte at which its run begins: what a paragraph is."""
        found: list[tuple[int, _Paragraph]] = []
        for page, runs, edges in self._pages(13):
            for n in range(runs):
                at = page[4 * (runs + 1) + 13 * n] * 2
                if not at:
                    found.append((edges[n], _Paragraph(0, None, False, False, False)))
                    continue
                size = page[at] * 2 - 1
                if page[at] == 0:
                    at += 1
                    size = page[at] * 2
                raw = page[at + 1 : at + 1 + size]
                style = struct.unpack_from("<H", raw, 0)[0] if len(raw) > 1 else 0
                sprms = list(_sprms(raw[2:]))
                said = dict(sprms)
                level = said.get(0x2640)
                found.append((edges[n], _Paragraph(
                    style, level[0] if level else None, any(said.get(0x460B, b"")), any(said.get(0x2416, b"")),
                    any(said.get(0x2417, b"")), _cells(sprms))))  # fmt: skip
        found.sort(key=lambda one: one[0])
        return found

    def _removed(self) -> list[tuple[int, int]]:
        """Ranges of bytes whose characters are hidden, or deleted by tracked changes."""
        found: list[tuple[int, int]] = []
        for page, runs, edges in self._pages(12):
            for n in range(runs):
                at = page[4 * (runs + 1) + n] * 2
                said = dict(_sprms(page[at + 1 : at + 1 + page[at]])) if at else {}
                if said.get(0x083C, b"\0")[0] == 1 or said.get(0x0800, b"\0")[0] == 1:
                    found.append((edges[n], edges[n + 1]))
                    self._left["hidden or deleted text"] += 1
        return sorted(found)

    def _styles(self) -> dict[int, int]:
        """Number of a style to the level of its heading: built-in ones by identity, others by what they extend."""
        at, size = self._at(1)
        sheet = self._table[at : at + size]
        if len(sheet) < 4:
            return {}
        (head,) = struct.unpack_from("<H", sheet, 0)
        (count,) = struct.unpack_from("<H", sheet, 2)
        at, levels, bases = 2 + head, dict[int, int](), dict[int, int]()
        for number in range(count):
            if at + 2 > len(sheet):
                break
            (size,) = struct.unpack_from("<H", sheet, at)
            if size >= 4:
                identity, base = struct.unpack_from("<HH", sheet, at + 2)
                if 1 <= identity & 0xFFF <= 9:
                    levels[number] = identity & 0xFFF
                elif identity & 0xFFF == 62:
                    levels[number] = 1
                bases[number] = base >> 4
            at += 2 + size + size % 2
        for number in bases:
            up, steps = number, 0
            while up in bases and up not in levels and steps < 20:
                up, steps = bases[up], steps + 1
            if up in levels:
                levels.setdefault(number, levels[up])
        return levels

    def _about(self, byte: int) -> _Paragraph:
        at = bisect_right(self._paragraphs, byte, key=lambda one: one[0]) - 1
        return self._paragraphs[at][1] if at >= 0 else _Paragraph(0, None, False, False, False)

    def _parts(self, first: int, end: int) -> Iterator[tuple[str, str, _Paragraph]]:
        """Paragraphs and cells: what they say, the mark that ends them, and what they are."""
        parts: list[str] = []
        fields: list[list[str]] = []  # instructions of those that are open; a result follows the separator
        in_result: list[bool] = []
        gone, at_gone = self._gone, 0
        for letter, byte in self._text(first, end):
            while at_gone < len(gone) and gone[at_gone][1] <= byte:
                at_gone += 1
            if at_gone and byte < gone[at_gone - 1][0]:
                at_gone = bisect_right(gone, (byte, 1 << 40)) - 1 if gone else 0
                at_gone = max(at_gone, 0)
            hidden = at_gone < len(gone) and gone[at_gone][0] <= byte < gone[at_gone][1]
            if letter in "\r\x07\x0c":
                yield "".join(parts), letter, self._about(byte)
                parts.clear()
            elif letter == "\x13":
                fields.append([])
                in_result.append(False)
            elif letter == "\x14" and fields:
                in_result[-1] = True
            elif letter == "\x15" and fields:
                link = _LINK.search("".join(fields.pop()))
                in_result.pop()
                if link and not "".join(parts).rstrip().endswith(link.group(1).removeprefix("mailto:")):
                    parts.append(f" ({link.group(1)})")
            elif fields and not in_result[-1]:
                fields[-1].append(letter)
            elif fields and not all(in_result) or hidden:
                continue
            elif letter == "\x01":
                self._left["pictures"] += 1
            elif letter == "\x02":
                parts.append("\x02")
            elif letter in "\x0b\x0e":
                parts.append("\n")
            elif letter == "\x1e":
                parts.append("-")
            elif letter >= " " or letter == "\t":
                parts.append(letter)
        if parts:
            yield "".join(parts), "\r", _Paragraph(0, None, False, False, False)

    def read(self, title: str, notes: tuple[str, ...]) -> Parsed:
        at = 0
        marks = 0
        for kind, count in zip(("text", "notes", "headers", "comments", "notes", "boxes"), self._counts, strict=True):
            if kind == "text":
                self._body(at, at + count)
            else:
                seen: set[str] = set()
                for text, _, _ in self._parts(at, at + count):
                    marks += kind == "notes" and "\x02" in text
                    said = " ".join(_whole(text.replace("\x02", f"[{marks}] ")).split())
                    if kind == "headers" and (said in seen or not any(c.isalpha() for c in said)):
                        continue
                    seen.add(said)
                    where = place(part=kind) if kind in ("headers", "comments") else ""
                    self._out.add("paragraph", f"Comment: {said}" if kind == "comments" and said else said, place=where)
            at += count
        left = unread(self._left)
        return self._out.parsed(title, (*notes, *left))

    def _body(self, first: int, end: int) -> None:
        rows: list[list[Edged]] = []
        cells: list[str] = []
        inside: list[str] = []  # paragraphs of the cell that is open
        marks, listed = 0, False
        for raw, ending, about in self._parts(first, end):
            while "\x02" in raw:
                marks += 1
                raw = raw.replace("\x02", f"[{marks}]", 1)
            text = "\n".join(" ".join(line.split()) for line in _whole(raw).split("\n")).strip()
            if (
                ending == "\x07"
                and about.row_end
                or ending == "\x07"
                and self._old
                and not text
                and not inside
                and cells
            ):
                where = (*about.cells, *(((n + 1) << 16, "") for n in range(len(about.cells), len(cells))))
                rows.append([Edged(edge, said, merge) for (edge, merge), said in zip(where, cells, strict=False)])
                cells, inside = [], []
                continue
            if ending == "\x07":
                cells.append(" ".join([*inside, text]).strip())
                inside = []
                continue
            if about.in_table:
                inside.append(text)
                continue
            if rows:
                lay(self._out, gridded(rows, _SLACK))
                rows, listed = [], False
            if not text:
                continue
            level = about.level + 1 if about.level is not None and about.level < 9 else self._levels.get(about.style, 0)
            if about.level == 9:
                level = 0
            if level:
                self._out.add("heading", " ".join(text.split()), level=level)
            elif about.listed:
                self._out.add("list", f"- {text}", near=listed)
                listed = True
                continue
            else:
                self._out.add("paragraph", text)
            listed = False
        lay(self._out, gridded(rows, _SLACK))


def _cells(sprms: list[tuple[int, bytes]]) -> tuple[tuple[int, str], ...]:
    """Right edges of a row's cells, in twips, and with which neighbour each is merged."""
    edges: list[int] = []
    merges: dict[int, str] = {}
    for code, raw in sprms:
        if code == 0xD608 and len(raw) > 3:
            count = raw[2]
            edges = list(struct.unpack_from(f"<{count}h", raw, 5)) if len(raw) >= 5 + 2 * count else []
            for n in range(min(count, (len(raw) - 5 - 2 * count) // 20)):
                (flags,) = struct.unpack_from("<H", raw, 5 + 2 * count + 20 * n)
                merges[n] = "left" if flags & 2 and not flags & 1 else "above" if flags & 0x60 == 0x20 else ""
        elif code == 0xD62B and len(raw) >= 3:
            merges[raw[1]] = "above" if raw[2] == 1 else ""
    return tuple((edge, merges.get(n, "")) for n, edge in enumerate(edges))


def _sprms(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Single properties: their code and what they are set to."""
    at = 0
    while at + 2 <= len(raw):
        (code,) = struct.unpack_from("<H", raw, at)
        at += 2
        size = (1, 1, 2, 4, 2, 2, 0, 3)[code >> 13]
        if code >> 13 == 6:
            if at >= len(raw):
                return
            if code == 0xD608:  # a table's columns: its size takes two bytes
                size = 1 + struct.unpack_from("<H", raw, at)[0] if at + 2 <= len(raw) else len(raw)
            else:
                size = 1 + raw[at]
        yield code, raw[at : at + size]
        at += size


def _whole(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


# --- PowerPoint -----------------------------------------------------------------------------------
class _Record(NamedTuple):
    kind: int
    instance: int
    start: int  # of what it holds
    end: int
    holds: bool  # other records


_TITLES = (0, 6)
_BODIES = (1, 5, 7, 8)


class _Shape(NamedTuple):
    top: int
    left: int
    bottom: int
    right: int
    kind: int  # of its text
    text: str
    rows: list[list[str]]


class _Slides:
    def __init__(self, data: bytes, user: bytes, out: TextBuilder) -> None:
        self._data, self._out = data, out
        self._records_left = _MOST_RECORDS
        self._offsets = self._persistent(user)
        self._left = Counter[str]()

    def _inside(self, start: int, end: int) -> Iterator[_Record]:
        while start + 8 <= end:
            head, kind, size = struct.unpack_from("<HHI", self._data, start)
            self._records_left -= 1
            if self._records_left < 0:
                raise ParseFailed("It has more parts than a presentation has.", kind="expansion")
            stop = min(start + 8 + size, end)
            yield _Record(kind, head >> 4, start + 8, stop, head & 0xF == 0xF)
            start = stop

    def _walk(self, record: _Record) -> Iterator[_Record]:
        """Everything below a record, in order."""
        stack = [self._inside(record.start, record.end)]
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
                continue
            yield found
            if found.holds:
                stack.append(self._inside(found.start, found.end))

    def _at(self, offset: int) -> _Record:
        found = next(self._inside(offset, len(self._data)), None)
        if found is None:
            raise ValueError("no record")
        return found

    def _persistent(self, user: bytes) -> dict[int, int]:
        """Where each object lies now: later edits stand before earlier ones."""
        found: dict[int, int] = {}
        offset = struct.unpack_from("<I", user, 16)[0] if len(user) >= 20 else 0
        self._document = 0
        seen: set[int] = set()
        while offset and offset not in seen:
            seen.add(offset)
            edit = self._at(offset)
            if edit.kind != 0x0FF5:
                raise ValueError("no edit")
            before, directory, document = struct.unpack_from("<III", self._data, edit.start + 8)
            self._document = self._document or document
            table = self._at(directory)
            at = table.start
            while at + 4 <= table.end:
                (head,) = struct.unpack_from("<I", self._data, at)
                first, count = head & 0xFFFFF, head >> 20
                for n in range(min(count, (table.end - at - 4) // 4)):
                    found.setdefault(first + n, struct.unpack_from("<I", self._data, at + 4 + 4 * n)[0])
                at += 4 + 4 * count
            offset = before
        return found

    def read(self, title: str, notes: tuple[str, ...]) -> Parsed:
        document = self._at(self._offsets[self._document])
        lists = {r.instance: r for r in self._inside(document.start, document.end) if r.kind == 0x0FF0}
        noted = {identity: ref for ref, identity, _ in self._listed(lists.get(2))}
        hidden = 0
        for number, (ref, _, outline) in enumerate(self._listed(lists.get(0)), 1):
            slide = self._at(self._offsets[ref])
            hidden += self._slide(slide, number, outline, noted)
        if hidden:
            notes = (*notes, f"hidden slides: {hidden} read too")
        left = unread(self._left)
        return self._out.parsed(title, (*notes, *left))

    def _listed(self, record: _Record | None) -> list[tuple[int, int, list[tuple[int, str]]]]:
        """Slides of a list: their object, their identity, and the texts that are kept in the outline."""
        found: list[tuple[int, int, list[tuple[int, str]]]] = []
        kind = 4
        for inner in () if record is None else self._inside(record.start, record.end):
            if inner.kind == 0x03F3:
                ref, _, _, identity = struct.unpack_from("<IIII", self._data, inner.start)
                found.append((ref, identity, []))
            elif inner.kind == 0x0F9F:
                (kind,) = struct.unpack_from("<I", self._data, inner.start)
                if found:
                    found[-1][2].append((kind, ""))
            elif inner.kind in (0x0FA0, 0x0FA8) and found and found[-1][2]:
                found[-1][2][-1] = (kind, self._said(inner))
        return found

    def _said(self, record: _Record) -> str:
        raw = self._data[record.start : record.end]
        text = raw.decode("utf-16-le", "replace") if record.kind == 0x0FA0 else raw.decode("latin-1")
        return text.replace("\r", "\n").replace("\x0b", "\n").rstrip("\n")

    def _slide(self, slide: _Record, number: int, outline: list[tuple[int, str]], noted: dict[int, int]) -> bool:
        where = place(slide=number)
        shapes = self._shapes(slide, outline)
        said = next((s for s in shapes if s.kind in _TITLES and s.text.strip()), None)
        if said is not None:
            self._out.add("heading", " ".join(said.text.split()), level=1, place=where)
        for shape in sorted(shapes, key=lambda s: (s.top // 40, s.left)):
            if shape is said:
                continue
            if shape.rows:
                lay(self._out, shape.rows, slide=number)
                continue
            lines = [line.strip() for line in shape.text.split("\n") if line.strip()]
            if shape.kind in _BODIES and len(lines) > 1:
                for n, line in enumerate(lines):
                    self._out.add("list", f"- {line}", near=n > 0, place=where)
            else:
                self._out.add("paragraph", "\n".join(lines), place=where)
        hidden = False
        for inner in self._inside(slide.start, slide.end):
            if inner.kind == 0x03EF and inner.end - inner.start >= 20:
                (notes,) = struct.unpack_from("<I", self._data, inner.start + 16)
                if notes in noted and noted[notes] in self._offsets:
                    page = self._at(self._offsets[noted[notes]])
                    text = "\n".join(s.text for s in self._shapes(page, []) if s.kind == 2 and s.text.strip())
                    self._out.add("paragraph", f"Notes: {text}" if text else "", place=where)
            elif inner.kind == 0x03F9 and inner.end - inner.start >= 11:
                hidden = bool(self._data[inner.start + 10] & 0x04)
        for inner in self._walk(slide):
            if inner.kind == 0x0FBA and inner.instance == 1:  # what a comment says
                text = self._data[inner.start : inner.end].decode("utf-16-le", "replace")
                self._out.add("paragraph", f"Comment: {text}" if text.strip() else "", place=where)
        return hidden

    def _shapes(self, slide: _Record, outline: list[tuple[int, str]]) -> list[_Shape]:
        """Texts and tables with where they stand. A group that is a table has its cells as shapes."""
        found: list[_Shape] = []
        stack: list[tuple[Iterator[_Record], list[_Shape]]] = []
        drawing = next((r for r in self._inside(slide.start, slide.end) if r.kind == 0x040C), None)
        if drawing is None:
            return []
        stack.append((self._inside(drawing.start, drawing.end), found))
        tables: list[tuple[list[_Shape], list[_Shape], list[tuple[int, int, int, int]]]] = []
        while stack:
            records, into = stack[-1]
            record = next(records, None)
            if record is None:
                stack.pop()
                if tables and tables[-1][0] is into and (not stack or stack[-1][1] is not into):
                    cells, outer, corner = tables.pop()
                    outer.append(_Shape(*(corner[0] if corner else (0, 0, 0, 0)), 4, "", _grid(cells)))
            elif record.kind == 0xF003:
                first = next(self._inside(record.start, record.end), None)
                if first is not None and any(self._is_table(r) for r in self._inside(first.start, first.end)):
                    inner: list[_Shape] = []
                    corners = [c for r in self._inside(first.start, first.end) if (c := self._corner(r)) is not None]
                    tables.append((inner, into, corners))
                    stack.append((self._inside(record.start, record.end), inner))
                else:
                    stack.append((self._inside(record.start, record.end), into))
            elif record.kind == 0xF004:
                shape = self._shape(record, outline)
                if shape is not None:
                    into.append(shape)
            elif record.holds:
                stack.append((self._inside(record.start, record.end), into))
        return found

    def _is_table(self, record: _Record) -> bool:
        """The property table of a group that says that it is a table."""
        if record.kind != 0xF122:
            return False
        for n in range(min(record.instance, (record.end - record.start) // 6)):
            code, value = struct.unpack_from("<HI", self._data, record.start + 6 * n)
            if code & 0x3FFF == 0x039F and value & 1:
                return True
        return False

    def _corner(self, record: _Record) -> tuple[int, int, int, int] | None:
        """Top, left, bottom and right."""
        size = record.end - record.start
        if record.kind == 0xF010 and size >= 8:
            top, left, right, bottom = struct.unpack_from("<4h" if size < 16 else "<4i", self._data, record.start)
            return top, left, bottom, right
        if record.kind == 0xF00F and size >= 16:
            left, top, right, bottom = struct.unpack_from("<4i", self._data, record.start)
            return top, left, bottom, right
        return None

    def _shape(self, record: _Record, outline: list[tuple[int, str]]) -> _Shape | None:
        box, kind = (0, 0, 0, 0), 4
        texts: list[str] = []
        for inner in self._walk(record):
            if (corner := self._corner(inner)) is not None:
                box = corner
            elif inner.kind == 0x0F9F:
                (kind,) = struct.unpack_from("<I", self._data, inner.start)
            elif inner.kind in (0x0FA0, 0x0FA8):
                texts.append(self._said(inner))
            elif inner.kind == 0x0F9E:
                (at,) = struct.unpack_from("<I", self._data, inner.start)
                if at < len(outline):
                    kind = outline[at][0]
                    texts.append(outline[at][1])
            elif inner.kind == 0xF00A and inner.instance == 75:
                self._left["pictures"] += 1
        text = _whole("\n".join(texts)).strip()
        return _Shape(*box, kind, text, []) if text and text != "*" else None


def _grid(cells: list[_Shape]) -> list[list[str]]:
    """Cells by where they stand: each fills the rows and columns that it reaches over."""
    columns, rows = sorted({cell.left for cell in cells}), sorted({cell.top for cell in cells})
    if len(columns) * len(rows) > _MOST_RECORDS:
        raise ParseFailed("A table has more cells than a slide has.", kind="expansion")
    grid = [[""] * len(columns) for _ in rows]
    for cell in cells:
        text = " ".join(cell.text.split())
        for row in range(
            bisect_left(rows, cell.top), max(bisect_left(rows, cell.bottom), bisect_left(rows, cell.top) + 1)
        ):
            for column in range(bisect_left(columns, cell.left), bisect_left(columns, max(cell.right, cell.left + 1))):
                grid[row][column] = text
    return grid
